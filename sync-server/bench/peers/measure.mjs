// Measures one peer in one workload: `node measure.mjs <peer> <workload> <sizes as JSON>`. Server and clients are processes of their own.
// Prints one JSON line, `{"figures": …}`: medians of the rounds. `npm run bench:peers` installs the peers and runs this.
import { fork } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { clients } from './clients.mjs'
import { until } from './until.mjs'

const [peerName, workload, sizesGiven, role] = process.argv.slice(2)
const peer = await import(`./${peerName}.mjs`)
const TEXT = 'lorem ipsum dolor sit amet '.repeat(400).slice(0, 10_000)
const now = () => Number(process.hrtime.bigint()) / 1e6
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

const children = new Set()
process.once('SIGTERM', () => process.exit(1))
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

async function contentsOf(sizes) {
  const { longSession, smallDocument } = await import(process.env.PLUTO_WORKLOADS)
  if (workload === 'w1') return Array.from({ length: sizes.documents }, (_, i) => smallDocument(i))
  if (workload === 'w2') {
    const { patches, text } = longSession(sizes.keystrokes)
    return [{ patches, whole: text.length }]
  }
  if (workload === 'w4') return Array.from({ length: 20 }, (_, i) => smallDocument(9_000 + i))
  return [{ text: TEXT }]
}

const measured = {
  async w1({ folder, ids }) {
    const server = await serve(folder)
    const taken = await start('open', { port: server.port, ids, steps: 8 }).heard()
    return { ...taken, server_cpu: await server.end() }
  },
  async w2({ folder, ids, contents }) {
    const server = await serve(folder)
    const taken = await start('open', { port: server.port, ids, length: contents[0].whole }).heard()
    return { ...taken, server_cpu: await server.end() }
  },
  async w3({ folder, ids: [id], readers: count, seconds }) {
    const server = await serve(folder)
    const { port } = server
    const readers = start('readers', { port, id, count, length: TEXT.length })
    await readers.heard()
    const writer = start('writer', { port, id, seconds, length: TEXT.length })
    await writer.heard()
    await sleep(500)
    const before = server.cpuSeconds()
    writer.say('go')
    const sent = await writer.heard()
    readers.say('go')
    const seen = await readers.heard()
    const server_cpu = server.cpuSeconds() - before
    await server.end()
    const late = []
    let missed = 0
    for (const times of seen) {
      const shown = new Map(times)
      for (const [length, at] of sent) {
        if (shown.has(length)) late.push(shown.get(length) - at)
        else missed++
      }
    }
    late.sort((a, b) => a - b)
    const at = share => late[Math.max(0, Math.ceil(share * late.length) - 1)] ?? null
    return { p50: at(0.5), p99: at(0.99), missed, server_cpu }
  },
  async w4({ folder, ids, edits }) {
    const server = await serve(folder, { acknowledges: true })
    const { port } = server
    const reader = start('reader', { port, ids, edits })
    await reader.heard()
    const writers = start('writers', { port, ids, edits })
    await writers.heard()
    await sleep(500)
    const before = server.cpuSeconds()
    writers.say('go')
    const started = await writers.heard()
    const visible = ((await reader.heard()) - started) / 1000
    let stored = null
    if (peer.stored) {
      const all = async () => (await peer.stored(folder, ids)).every(rev => rev === edits)
      await until(all, 60_000, 50)
      stored = (now() - started) / 1000
    }
    const server_cpu = server.cpuSeconds() - before
    await server.end()
    return { visible, stored, server_cpu }
  },
  async w5({ folder, ids: [id], edits }) {
    const server = await serve(folder)
    const taken = await start('offline', { port: server.port, id, edits, length: TEXT.length }).heard()
    return { ...taken, server_cpu: await server.end() }
  },
  async w6({ folder, ids: [id], kills }) {
    const edits = 20
    let lossy = 0
    let length = TEXT.length
    for (let kill = 0; kill < kills; kill++) {
      const server = await serve(folder, { acknowledges: true })
      const killer = start('killer', { port: server.port, id, edits, length, server: server.pid })
      await killer.heard()
      // The client would give what is lost to the next server.
      await Promise.all([killer.kill(), server.end()])
      const next = await serve(folder, { acknowledges: true })
      const client = start('length', { port: next.port, id })
      const found = await client.heard()
      await Promise.all([client.kill(), next.end()])
      if (found < length + edits) lossy++
      length = found
    }
    return { kills, lossy }
  },
}

async function serve(folder, { acknowledges = false } = {}) {
  const part = start('server', { folder, acknowledges })
  const port = await part.heard()
  const before = cpuSeconds(part.pid)
  return {
    port,
    pid: part.pid,
    cpuSeconds: () => cpuSeconds(part.pid),
    /** Ends it; the seconds of CPU that it took since it was ready. */
    end: async () => {
      const used = cpuSeconds(part.pid) - before
      await part.kill()
      return used
    },
  }
}

function start(name, args) {
  const child = fork(process.argv[1], [peerName, workload, sizesGiven, name], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  children.add(child)
  const ended = new Promise(resolve => child.once('exit', resolve))
  const part = partOf(child, message => child.connected && child.send(message))
  ended.then(code => part.fail(new Error(`the part "${name}" ended with ${code}`)))
  part.say(args)
  return {
    pid: child.pid,
    ...part,
    kill: () => {
      child.kill('SIGKILL')
      return ended
    },
  }
}

/** Messages to and from another process, in order. */
function partOf(emitter, say) {
  const arrived = []
  let failed = null
  let wake = () => undefined
  emitter.on('message', message => {
    arrived.push(message)
    wake()
  })
  return {
    say,
    fail: error => {
      failed = error
      wake()
    },
    heard: async () => {
      while (arrived.length === 0) {
        if (failed) throw failed
        await new Promise(resolve => {
          wake = resolve
        })
      }
      return arrived.shift()
    },
  }
}

function median(values) {
  const known = values.filter(value => value !== null).sort((a, b) => a - b)
  return known.length === 0 ? null : known[Math.floor(known.length / 2)]
}

/** Seconds of CPU since the process began; 0 where there is no /proc, or it has ended. */
function cpuSeconds(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return 0
  }
}

if (role) {
  const part = partOf(process, message => process.send(message))
  process.once('disconnect', () => process.exit(0))
  const args = await part.heard()
  if (role === 'server') part.say(await peer.serve(args.folder, args))
  else await clients[role](part, peer, args)
} else {
  const { rounds, ...sizes } = JSON.parse(sizesGiven)
  const contents = await contentsOf(sizes)
  const scratch = mkdtempSync(join(tmpdir(), 'pluto-peers-'))
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }))
  const seeded = join(scratch, 'seeded')
  const ids = await peer.seed(seeded, contents)
  const taken = []
  for (let round = 0; round < rounds; round++) {
    // Each round finds the same state.
    const folder = join(scratch, `round-${round}`)
    cpSync(seeded, folder, { recursive: true })
    taken.push(await measured[workload]({ folder, ids, contents, ...sizes }))
    rmSync(folder, { recursive: true, force: true })
  }
  const figures = Object.fromEntries(
    Object.keys(taken[0]).map(name => [name, median(taken.map(one => one[name]))]),
  )
  console.log(JSON.stringify({ figures }))
  process.exit(0)
}
