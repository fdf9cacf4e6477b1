// What the clients of each workload do, in a process of their own. `part` talks to measure.mjs; times are of a clock that all processes
// of a machine share.
import { Socket } from 'node:net'
import { until } from './until.mjs'

const sockets = new Set()
const connect = Socket.prototype.connect
Socket.prototype.connect = function (...args) {
  sockets.add(this)
  return connect.apply(this, args)
}
/** Of all connections of this process, both ways. */
const bytes = () => [...sockets].reduce((sum, socket) => sum + socket.bytesRead + socket.bytesWritten, 0)
const now = () => Number(process.hrtime.bigint()) / 1e6
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

/** The same numbers from 0 to 1 in every run (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const clients = {
  /** W1 and W2: opens documents until all show their content. */
  async open(part, peer, { port, ids, steps, length }) {
    const started = now()
    const client = await peer.Client.connect(port)
    const opened = []
    const waiting = [...ids]
    // More at once and automerge-repo answers "unavailable".
    const open = async () => {
      for (let id = waiting.pop(); id; id = waiting.pop()) opened.push(await client.open(id))
    }
    await Promise.all(Array.from({ length: Math.min(64, ids.length) }, open))
    const whole = one => (steps ? one.steps() === steps : one.length() === length)
    await until(() => opened.every(whole), 240_000, 2)
    part.say({ seconds: (now() - started) / 1000, bytes: bytes() })
  },

  /** W3: so many readers of one text, each told when it had which length. */
  async readers(part, peer, { port, id, count, length }) {
    const seen = []
    for (let reader = 0; reader < count; reader++) {
      const opened = await (await peer.Client.connect(port)).open(id)
      await until(() => opened.length() >= length)
      const times = []
      let known = opened.length()
      opened.onChange(() => {
        const at = now()
        for (const shown = opened.length(); known < shown; ) times.push([++known, at])
      })
      seen.push(times)
    }
    part.say('ready')
    await part.heard()
    part.say(seen)
  },

  /** W3: types 20 characters a second. */
  async writer(part, peer, { port, id, seconds, length }) {
    const opened = await (await peer.Client.connect(port)).open(id)
    await until(() => opened.length() >= length)
    part.say('ready')
    await part.heard()
    const sent = []
    const started = now()
    for (let i = 0; i < seconds * 20; i++) {
      await sleep(Math.max(0, started + i * 50 - now()))
      const at = now()
      opened.insert(length + i, 'x')
      sent.push([length + i + 1, at])
    }
    await sleep(1_500)
    part.say(sent)
  },

  /** W4: a writer for each document, all as fast as they can. */
  async writers(part, peer, { port, ids, edits }) {
    const opened = []
    for (const id of ids) {
      const one = await (await peer.Client.connect(port)).open(id)
      await until(() => one.rev() === 0)
      opened.push(one)
    }
    part.say('ready')
    await part.heard()
    const started = now()
    for (let i = 1; i <= edits; i++) {
      for (const one of opened) one.edit(i)
      await new Promise(resolve => setImmediate(resolve))
    }
    await Promise.all(opened.map(one => one.acknowledged()))
    part.say(started)
    await part.heard()
  },

  /** W4: one reader of all documents, until it shows the last edit of each. */
  async reader(part, peer, { port, ids, edits }) {
    const client = await peer.Client.connect(port)
    let open = ids.length
    const done = Promise.withResolvers()
    for (const id of ids) {
      const opened = await client.open(id)
      let shown = false
      opened.onChange(() => {
        if (shown || opened.rev() !== edits) return
        shown = true
        if (--open === 0) done.resolve(now())
      })
    }
    part.say('ready')
    part.say(await done.promise)
  },

  /** W5: two devices edit one text offline and come back. */
  async offline(part, peer, { port, id, edits, length }) {
    const devices = await Promise.all([peer.Client.connect(port), peer.Client.connect(port)])
    const texts = await Promise.all(devices.map(device => device.open(id)))
    await until(() => texts.every(text => text.length() === length))
    await sleep(500)
    for (const device of devices) device.offline()
    await sleep(300)
    const random = randomFrom(7)
    for (let i = 0; i < edits; i++) {
      texts[0].insert(Math.floor(random() * 4_500), 'a')
      texts[1].insert(5_500 + Math.floor(random() * 4_400), 'b')
    }
    const before = bytes()
    const started = now()
    for (const device of devices) device.online()
    await until(() => texts.every(text => text.length() === length + 2 * edits), 120_000)
    const seconds = (now() - started) / 1000
    if (texts[0].text() !== texts[1].text()) throw new Error('the two devices show different texts')
    await sleep(1_000)
    part.say({ seconds, bytes: bytes() - before })
  },

  /** W6: types, waits until it is told that it is synced, and kills the server. */
  async killer(part, peer, { port, id, edits, length, server }) {
    const opened = await (await peer.Client.connect(port)).open(id)
    await until(() => opened.length() >= length)
    await sleep(400)
    await opened.acknowledged()
    for (let i = 0; i < edits; i++) {
      opened.insert(0, 'z')
      await sleep(5)
    }
    await opened.acknowledged()
    process.kill(server, 'SIGKILL')
    part.say('killed')
  },

  /** W6: what the next server knows; 0 when it does not answer. */
  async length(part, peer, { port, id }) {
    const opened = await Promise.race([(await peer.Client.connect(port)).open(id), sleep(8_000)])
    await sleep(300)
    part.say(opened?.length() ?? 0)
  },
}
