// Measures one peer: `node measure.mjs <peer> <w1 documents> <w2 edits> <rounds>`. Server and client are processes of their own.
// Prints one JSON line for each figure. `npm run bench:peers` installs the peers and runs this.
import { fork } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [peerName, documentsGiven, editsGiven, roundsGiven, role] = process.argv.slice(2)
const peer = await import(`./${peerName}.mjs`)
const say = message => new Promise(resolve => process.send(message, resolve))
const until = async done => {
  const started = performance.now()
  while (!done()) {
    if (performance.now() - started > 240_000) throw new Error('it does not come to an end')
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

if (role === 'server') {
  process.once('message', async folder => say({ port: await peer.serve(folder) }))
} else if (role === 'client') {
  const sockets = new Set()
  const connect = Socket.prototype.connect
  Socket.prototype.connect = function (...args) {
    sockets.add(this)
    return connect.apply(this, args)
  }
  process.once('message', async ({ port, ids, steps, length }) => {
    const started = performance.now()
    const client = await peer.Client.connect(port)
    const opened = []
    const waiting = [...ids]
    // More at once and automerge-repo answers "unavailable".
    const open = async () => {
      for (let id = waiting.pop(); id; id = waiting.pop()) opened.push(await client.open(id))
    }
    await Promise.all(Array.from({ length: Math.min(64, ids.length) }, open))
    await until(() => opened.every(one => (steps ? one.steps() === steps : one.length() === length)))
    const seconds = (performance.now() - started) / 1000
    let bytes = 0
    for (const socket of sockets) bytes += socket.bytesRead + socket.bytesWritten
    await say({ seconds, bytes })
    process.exit(0)
  })
} else {
  const { longSession, smallDocument } = await import(process.env.PLUTO_WORKLOADS)
  const count = Number(documentsGiven)
  const small = Array.from({ length: count }, (_, i) => [peer.newId(), peer.buildSmall(smallDocument(i))])
  await measure('w1', small, { steps: 8 })
  const session = longSession(Number(editsGiven))
  await measure('w2', [[peer.newId(), peer.buildText(session)]], { length: session.text.length })
  process.exit(0)
}

function start(which) {
  const child = fork(process.argv[1], [...process.argv.slice(2, 6), which], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const ended = new Promise(resolve => child.once('exit', resolve))
  return {
    pid: child.pid,
    ask: message =>
      new Promise((resolve, reject) => {
        child.once('message', resolve)
        child.once('exit', code => reject(new Error(`the ${which} ended with ${code}`)))
        child.send(message)
      }),
    end: () => {
      child.kill('SIGKILL')
      return ended
    },
  }
}

async function measure(workload, documents, expected) {
  const folder = mkdtempSync(join(tmpdir(), 'pluto-peers-'))
  await peer.seed(folder, documents)
  const rounds = []
  for (let round = 0; round < Number(roundsGiven); round++) {
    const server = start('server')
    const { port } = await server.ask(folder)
    const before = cpuSeconds(server.pid)
    const client = start('client')
    const taken = await client.ask({ port, ids: documents.map(([id]) => id), ...expected })
    rounds.push({ ...taken, server_cpu: cpuSeconds(server.pid) - before })
    await client.end()
    await server.end()
  }
  rmSync(folder, { recursive: true, force: true })
  const median = key => rounds.map(one => one[key]).sort((a, b) => a - b)[Math.floor(rounds.length / 2)]
  const figures = { seconds: median('seconds'), bytes: median('bytes'), server_cpu: median('server_cpu') }
  console.log(JSON.stringify({ peer: peerName, workload, ...figures }))
}

/** Seconds of CPU since the process began; NaN where there is no /proc. */
function cpuSeconds(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) / 100
  } catch {
    return Number.NaN
  }
}
