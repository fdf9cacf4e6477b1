import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  IDLE,
  type PublishEvent,
  type PublishReply,
  type PublishRequest,
  type PublishState,
  publishState,
  step,
} from '../../src/publish/machine.ts'

const uuid = (n: number) => `01900000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`
const hex = (n: number) => n.toString(16).padStart(64, '0')

interface Version {
  number: number
  versionId: string
  content: string
  marksThere: readonly string[]
}

/** The server's rules of publishing (DESIGN 5), in memory. Heads stand for the content and for the marks visible at them. */
class ModelServer {
  readonly versions: Version[] = []
  readonly known = new Set<string>()
  readonly marksAt = new Map<string, readonly string[]>()
  writes = 0

  publish(request: PublishRequest): PublishReply {
    const same = this.versions.find(version => version.versionId === request.version_id)
    if (same) return this.stored(same, false)
    const head = request.heads[0]!
    if (!this.known.has(head)) return { kind: 'unknown_heads', error: error('version.unknown_heads') }
    const current = this.versions.at(-1)
    if (current?.content === request.content_hash) return this.stored(current, false)
    if ((current?.number ?? null) !== request.parent)
      return { kind: 'moved', current: current ? summary(current) : null }
    const open = (this.marksAt.get(head) ?? []).filter(mark => !request.resolved.includes(mark))
    if (open.length > 0) return { kind: 'marks', markIds: open }
    const made: Version = {
      number: this.versions.length + 1,
      versionId: request.version_id,
      content: request.content_hash,
      marksThere: this.marksAt.get(head) ?? [],
    }
    this.versions.push(made)
    this.writes++
    return this.stored(made, true)
  }

  stored(version: Version, created: boolean): PublishReply {
    return { kind: 'stored', version: summary(version), created }
  }
}

const error = (code: string) => ({ code, message: code, hint: '' })
const summary = (version: Version) => ({
  version_id: version.versionId,
  pipeline_id: uuid(1),
  number: version.number,
  content_hash: version.content,
  heads: [version.content],
  parent: version.number === 1 ? null : version.number - 1,
  message: '',
  published_by: { user_id: 'u', name: 'U' },
  published_at: '2026-01-01T00:00:00.000Z',
  authors: [],
  resolved: [],
  restores: null,
})

/** One device: its machine's state on disk, its view of the server, and a network that the test steers. */
class Device {
  disk: string = JSON.stringify(IDLE)
  online = true
  inFlight: PublishRequest[] = []
  seenVersion: number | null = null
  content = 0
  marks: readonly string[] = []
  reviewed = new Set<string>()
  ids = 0

  readonly server: ModelServer
  readonly number: number

  constructor(server: ModelServer, number: number) {
    this.server = server
    this.number = number
  }

  get state(): PublishState {
    return publishState.parse(JSON.parse(this.disk))
  }

  on(event: PublishEvent): void {
    const next = step(this.state, event)
    this.disk = JSON.stringify(next.state)
    for (const effect of next.effects) if (effect.do === 'send') this.inFlight.push(effect.request)
  }

  edit(): void {
    this.content++
  }

  /** The heads of the working state; the server gets to know them with the next sync. */
  head(content = this.content): string {
    return hex(this.number * 1_000_000 + content)
  }

  request(content = this.content, contentHash = this.head(content)): PublishRequest {
    return {
      version_id: uuid(this.number * 1_000_000 + ++this.ids),
      workspace_id: uuid(2),
      pipeline_id: uuid(1),
      heads: [this.head(content)],
      parent: this.seenVersion,
      resolved: this.marks.filter(mark => this.reviewed.has(mark)),
      message: '',
      content_hash: contentHash,
    }
  }

  sync(): void {
    if (!this.online) return
    for (let c = 0; c <= this.content; c++) this.server.known.add(this.head(c))
    const now = this.state
    if (now.state !== 'sending') this.seenVersion = this.server.versions.at(-1)?.number ?? null
    this.on({ kind: 'ready' })
  }

  deliver(fate: 'replied' | 'reply lost' | 'request lost'): void {
    const request = this.inFlight.shift()
    if (!request) return
    const reply: PublishReply =
      fate === 'request lost' || !this.online ? { kind: 'lost' } : this.server.publish(request)
    this.on({
      kind: 'replied',
      versionId: request.version_id,
      reply: fate === 'replied' ? reply : { kind: 'lost' },
    })
  }

  kill(): void {
    this.inFlight = []
    this.on({ kind: 'restarted' })
  }
}

/** Ends in rest: online, nothing in flight, nothing queued. */
const settle = (device: Device) => {
  device.online = true
  device.kill()
  for (let i = 0; i < 20; i++) {
    device.sync()
    device.deliver('replied')
  }
}

const action = fc.constantFrom(
  'edit',
  'request',
  'sync',
  'offline',
  'online',
  'deliver',
  'lose reply',
  'lose request',
  'kill',
  'dismiss',
) as fc.Arbitrary<
  | 'edit'
  | 'request'
  | 'sync'
  | 'offline'
  | 'online'
  | 'deliver'
  | 'lose reply'
  | 'lose request'
  | 'kill'
  | 'dismiss'
>
type Action = typeof action extends fc.Arbitrary<infer A> ? A : never

const act = (device: Device, what: Action, asked: PublishRequest[]) => {
  if (what === 'edit') device.edit()
  else if (what === 'request') {
    const request = device.request()
    asked.push(request)
    device.on({ kind: 'requested', request })
  } else if (what === 'sync') device.sync()
  else if (what === 'offline') {
    device.online = false
    device.on({ kind: 'offline' })
  } else if (what === 'online') device.online = true
  else if (what === 'deliver') device.deliver('replied')
  else if (what === 'lose reply') device.deliver('reply lost')
  else if (what === 'lose request') device.deliver('request lost')
  else if (what === 'kill') device.kill()
  else device.on({ kind: 'dismissed' })
}

describe('publish machine', () => {
  it('[PUB1] whatever replies are lost and whenever the host dies, a request publishes once', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), actions => {
        const server = new ModelServer()
        const device = new Device(server, 1)
        const asked: PublishRequest[] = []
        for (const what of actions) {
          act(device, what, asked)
          expect(device.inFlight.length).toBeLessThanOrEqual(1)
        }
        settle(device)
        const ids = server.versions.map(version => version.versionId)
        expect(new Set(ids).size).toBe(ids.length)
        expect(ids.every(id => asked.some(request => request.version_id === id))).toBe(true)
        expect(['idle', 'published', 'needs_you']).toContain(device.state.state)
      }),
      { numRuns: 400 },
    )
  })

  it('[PUB1] one request over a lost reply and a kill: one version, and the device knows it', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.on({ kind: 'requested', request: device.request() })
    device.sync()
    device.deliver('reply lost')
    device.sync()
    device.kill()
    settle(device)
    expect(server.writes).toBe(1)
    expect(device.state).toMatchObject({ state: 'published', version: { number: 1 } })
  })

  it('[PUB2] two devices, any order: a version is only ever made on the parent that its publisher saw', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), action), { maxLength: 60 }), actions => {
        const server = new ModelServer()
        const devices = [new Device(server, 1), new Device(server, 2)] as const
        const asked: PublishRequest[] = []
        for (const [first, what] of actions) act(devices[first ? 0 : 1], what, asked)
        settle(devices[0])
        settle(devices[1])
        for (const [index, version] of server.versions.entries()) {
          expect(version.number).toBe(index + 1)
          const request = asked.find(one => one.version_id === version.versionId)!
          const before = server.versions[index - 1]
          // Either it named the version before it, or that one was this device's own, still on its way when it was asked.
          const parent = before ? before.number : null
          const own = before && before.versionId.slice(-12, -5) === version.versionId.slice(-12, -5)
          expect(request.parent === parent || own).toBe(true)
        }
      }),
      { numRuns: 400 },
    )
  })

  it('[PUB2] a parent that moved asks a person, and sends nothing more by itself', () => {
    const server = new ModelServer()
    const [a, b] = [new Device(server, 1), new Device(server, 2)]
    a.on({ kind: 'requested', request: a.request() })
    b.on({ kind: 'requested', request: b.request() })
    settle(a)
    settle(b)
    expect(b.state).toMatchObject({ state: 'needs_you', need: { kind: 'moved', current: { number: 1 } } })
    for (let i = 0; i < 5; i++) b.sync()
    expect(b.inFlight).toEqual([])
    b.on({ kind: 'requested', request: b.request() })
    settle(b)
    expect(b.state).toMatchObject({ state: 'published', version: { number: 2, parent: 1 } })
  })

  it('[PUB3] asked offline, it is queued, survives a kill, and is sent once when online', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.online = false
    device.on({ kind: 'requested', request: device.request() })
    device.sync()
    device.kill()
    expect(device.state.state).toBe('queued')
    expect(device.inFlight).toEqual([])
    device.online = true
    device.sync()
    device.sync()
    expect(device.inFlight).toHaveLength(1)
    device.deliver('replied')
    device.sync()
    expect(device.inFlight).toEqual([])
    expect(server.writes).toBe(1)
  })

  it('[PUB3] asked twice offline, only the newer is sent: the first was never on its way', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.on({ kind: 'requested', request: device.request() })
    device.edit()
    const newer = device.request()
    device.on({ kind: 'requested', request: newer })
    settle(device)
    expect(server.versions.map(version => version.versionId)).toEqual([newer.version_id])
  })

  it('[PUB4] a restore of k ends in the content hash of k, whatever is edited meanwhile', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.array(action, { maxLength: 20 }),
        (restored, actions) => {
          const server = new ModelServer()
          const device = new Device(server, 1)
          for (let i = 0; i < 5; i++) {
            device.edit()
            settle(device)
            device.on({ kind: 'requested', request: device.request() })
            settle(device)
          }
          const content = server.versions[restored - 1]!.content
          device.edit()
          const request = device.request(device.content, content)
          device.on({ kind: 'requested', request })
          for (const what of actions) {
            if (what !== 'request' && what !== 'dismiss') act(device, what, [])
          }
          settle(device)
          expect(server.versions).toHaveLength(6)
          expect(server.versions[5]!.content).toBe(content)
          expect(device.state).toMatchObject({ state: 'published', version: { content_hash: content } })
        },
      ),
      { numRuns: 200 },
    )
  })

  it('[PUB5] a mark that appears between the review and the publish is not resolved by it', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.marks = ['m1']
    device.reviewed.add('m1')
    const request = device.request()
    device.on({ kind: 'requested', request })
    device.marks = ['m1', 'm2']
    server.marksAt.set(request.heads[0]!, ['m1', 'm2'])
    settle(device)
    expect(server.versions).toEqual([])
    expect(device.state).toMatchObject({ state: 'needs_you', need: { kind: 'marks', mark_ids: ['m2'] } })
  })

  it('[PUB5] edits after the request are neither published nor reviewed by it', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.online = false
    const request = device.request()
    device.on({ kind: 'requested', request })
    device.edit()
    server.marksAt.set(device.head(), ['later'])
    settle(device)
    expect(server.versions.map(version => version.content)).toEqual([request.content_hash])
  })

  it('[PUB6] heads that the server does not know are synced first, then a person is asked', () => {
    const device = new Device(new ModelServer(), 1)
    const request = device.request()
    device.on({ kind: 'requested', request })
    for (let i = 0; i < 3; i++) {
      device.on({ kind: 'ready' })
      device.deliver('replied')
    }
    expect(device.state).toMatchObject({ state: 'needs_you', need: { kind: 'refused' } })
  })

  it('[PUB7] a newer request waits until one that may have been sent is settled, and follows it', () => {
    const server = new ModelServer()
    const device = new Device(server, 1)
    device.on({ kind: 'requested', request: device.request() })
    device.sync()
    device.edit()
    device.on({ kind: 'requested', request: device.request() })
    device.deliver('reply lost')
    settle(device)
    expect(server.versions).toHaveLength(2)
    expect(device.state).toMatchObject({ state: 'published', version: { number: 2 } })
  })
})
