import type { AddressInfo } from 'node:net'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** When a server dies: before a message of its reaches Postgres, or when Postgres has it and the answer is on its way. */
export type Moment = 'before' | 'after'

/**
 * The connections between one server and Postgres. Cutting it is what remains of a server whose process was killed: what it
 * had sent counts, nothing else of it ever will.
 */
export class PostgresLink {
  readonly #server: Server
  readonly #target: { readonly host: string; readonly port: number }
  readonly #sockets = new Set<Socket>()
  readonly #listening = new Set<Socket>()
  #cut = false
  #fuse: { left: number; readonly moment: Moment; readonly burn: () => void } | null = null
  /** Asked for each notification: true keeps it from the server. */
  losesNotification: () => boolean = () => false

  private constructor(server: Server, target: { host: string; port: number }) {
    this.#server = server
    this.#target = target
    server.on('connection', client => this.#serve(client))
  }

  static async open(databaseUrl: string): Promise<{ link: PostgresLink; url: string }> {
    const target = new URL(databaseUrl)
    const server = createServer()
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    const link = new PostgresLink(server, { host: target.hostname, port: Number(target.port) })
    target.port = String((server.address() as AddressInfo).port)
    target.hostname = '127.0.0.1'
    return { link, url: target.href }
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
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Breaks the connections that are there; new ones can be made. */
  reset(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** Breaks only those that wait for notifications. */
  resetListeners(): void {
    for (const socket of this.#listening) socket.destroy()
  }

  #serve(client: Socket): void {
    if (this.#cut) {
      client.destroy()
      return
    }
    const upstream = connect(this.#target.port, this.#target.host)
    client.setNoDelay(true)
    upstream.setNoDelay(true)
    const requests = new Messages(true)
    const answers = new Messages(false)
    let listens = false
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        this.#listening.delete(client)
        client.destroy()
        upstream.destroy()
      })
    }
    client.on('data', chunk => {
      let through: Buffer[] = []
      const pass = (): void => {
        // Written as one: each write costs as much as the whole of a small statement.
        if (through.length > 0) upstream.write(through.length === 1 ? through[0]! : Buffer.concat(through))
        through = []
      }
      for (const message of requests.push(chunk)) {
        if (this.#cut) return
        if (message.startup && message.bytes.includes('pluto-server events')) {
          listens = true
          this.#listening.add(client)
        }
        // Sync and Query: the ends of what is asked at once.
        const burns = !listens && (message.type === 'S' || message.type === 'Q') && this.#burns()
        if (burns !== false && burns.moment === 'before') {
          pass()
          this.#end(burns.burn)
          return
        }
        through.push(message.bytes)
        if (burns !== false) {
          // The message is with Postgres, its answer reaches nobody.
          pass()
          this.#cut = true
          setImmediate(() => setImmediate(() => this.#end(burns.burn)))
          return
        }
      }
      pass()
    })
    upstream.on('data', chunk => {
      if (this.#cut) return
      if (!listens) {
        client.write(chunk)
        return
      }
      for (const message of answers.push(chunk))
        if (message.type !== 'A' || !this.losesNotification()) client.write(message.bytes)
    })
    client.on('end', () => upstream.end())
    upstream.on('end', () => client.end())
  }

  #burns(): false | { moment: Moment; burn: () => void } {
    const fuse = this.#fuse
    if (!fuse || --fuse.left > 0) return false
    this.#fuse = null
    return fuse
  }

  #end(burn: () => void): void {
    this.cut()
    burn()
  }
}

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
