import { Socket } from 'node:net'

/** When a server dies: before a message of its reaches Postgres, or when Postgres has it and the answer is on its way. */
export type Moment = 'before' | 'after'

/**
 * The connections between one server and Postgres. Cutting it is what remains of a server whose process was killed: what it
 * had sent counts, nothing else of it ever will.
 */
export class PostgresLink {
  readonly #sockets = new Set<LinkSocket>()
  #cut = false
  #fuse: { left: number; readonly moment: Moment; readonly burn: () => void } | null = null
  /** Asked for each notification: true keeps it from the server. */
  losesNotification: () => boolean = () => false

  /** A connection of the server's. */
  socket(): Socket {
    const socket = new LinkSocket(this)
    this.#sockets.add(socket)
    socket.on('error', () => undefined)
    socket.once('close', () => this.#sockets.delete(socket))
    return socket
  }

  get isCut(): boolean {
    return this.#cut
  }

  /** Calls `burn` at the `count`th message from now on that asks Postgres to do something; then nothing passes any more. */
  arm(count: number, moment: Moment, burn: () => void): void {
    this.#fuse = { left: count, moment, burn }
  }

  disarm(): void {
    this.#fuse = null
  }

  /** Nothing passes any more, for good. */
  cut(): void {
    this.#cut = true
    this.reset()
  }

  /** Breaks the connections that are there; new ones can be made. */
  reset(): void {
    for (const socket of this.#sockets) socket.destroy(broken('read ECONNRESET', 'ECONNRESET'))
  }

  /** Breaks only those that wait for notifications. */
  resetListeners(): void {
    for (const socket of this.#sockets)
      if (socket.listens) socket.destroy(broken('read ECONNRESET', 'ECONNRESET'))
  }

  /** Whether the message that asks Postgres for something is the server's last one. Its socket passes it on, or not, and says `ended` then. */
  burns(): Moment | null {
    const fuse = this.#fuse
    if (!fuse || --fuse.left > 0) return null
    this.#fuse = null
    if (fuse.moment === 'before') {
      this.#end(fuse.burn)
      return 'before'
    }
    // The message goes to Postgres, its answer reaches nobody.
    this.#cut = true
    setImmediate(() => setImmediate(() => this.#end(fuse.burn)))
    return 'after'
  }

  #end(burn: () => void): void {
    this.cut()
    burn()
  }
}

/** A socket to Postgres that looks at what passes: no proxy is between, for each of its writes would cost as much as a small statement. */
class LinkSocket extends Socket {
  readonly #link: PostgresLink
  readonly #requests = new Messages(true)
  readonly #answers = new Messages(false)
  /** It waits for notifications. */
  listens = false

  constructor(link: PostgresLink) {
    super()
    this.#link = link
  }

  override connect(...to: unknown[]): this {
    if (this.#link.isCut) {
      process.nextTick(() => this.destroy(broken('connect ECONNREFUSED', 'ECONNREFUSED')))
      return this
    }
    return Reflect.apply(super.connect, this, to) as this
  }

  override write(chunk: string | Uint8Array, ...more: unknown[]): boolean {
    if (this.#link.isCut) return true
    for (const message of this.#requests.push(bytesOf(chunk))) {
      if (message.startup && message.bytes.includes('pluto-server events')) this.listens = true
      // Sync and Query: the ends of what is asked at once.
      const asks = message.type === 'S' || message.type === 'Q'
      if (asks && !this.listens && this.#link.burns() === 'before') return true
    }
    return Reflect.apply(super.write, this, [chunk, ...more]) as boolean
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    if (chunk === null) return super.push(null)
    if (this.#link.isCut) return true
    if (!this.listens) return super.push(chunk, encoding)
    let more = true
    for (const message of this.#answers.push(chunk as Buffer))
      if (message.type !== 'A' || !this.#link.losesNotification()) more = super.push(message.bytes)
    return more
  }
}

const broken = (message: string, code: string): Error => Object.assign(new Error(message), { code })

const bytesOf = (chunk: string | Uint8Array): Buffer =>
  typeof chunk === 'string'
    ? Buffer.from(chunk)
    : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)

interface Message {
  readonly startup: boolean
  readonly type: string
  readonly bytes: Buffer
}

/** Postgres' messages out of a stream: a type, a length, and what it says; only the first of a client has no type. */
class Messages {
  #pending: Buffer = Buffer.alloc(0)
  #startup: boolean

  constructor(startup: boolean) {
    this.#startup = startup
  }

  *push(chunk: Buffer): Generator<Message> {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk])
    for (;;) {
      const head = this.#startup ? 0 : 1
      if (this.#pending.length < head + 4) return
      const end = head + this.#pending.readInt32BE(head)
      if (this.#pending.length < end) return
      const bytes = this.#pending.subarray(0, end)
      this.#pending = this.#pending.subarray(end)
      const startup = this.#startup
      this.#startup = false
      yield { startup, type: startup ? '' : String.fromCharCode(bytes[0]!), bytes }
    }
  }
}
