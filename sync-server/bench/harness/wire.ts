import { Socket } from 'node:net'
import {
  type AppendVerdict,
  appendVerdict,
  CBOR_SEQUENCE,
  decodeSequence,
  type EndItem,
  encodeItem,
  endItem,
  HEADER,
  newId,
} from '@pluto-duck/crdt-model/protocol'

/** Bytes of all connections that this process opened, headers included. */
const sockets = new Set<Socket>()
const connect = Socket.prototype.connect
Socket.prototype.connect = function (this: Socket, ...args: never[]) {
  sockets.add(this)
  return (connect as (...given: never[]) => Socket).apply(this, args)
} as typeof connect
export function socketBytes(): { received: number; sent: number } {
  let [received, sent] = [0, 0]
  for (const socket of sockets) {
    received += socket.bytesRead
    sent += socket.bytesWritten
  }
  return { received, sent }
}

export interface Account {
  readonly url: string
  readonly token: string
  readonly workspaceId: string
}

export interface PushItem {
  readonly documentId: string
  readonly bytes: Uint8Array
}

/** One device of one person in one workspace, speaking plain HTTP as any client of the protocol would. */
export class Device {
  readonly id = newId()
  readonly account: Account

  constructor(account: Account) {
    this.account = account
  }

  /** Makes a workspace on the server. */
  static async workspace(server: { readonly url: string; readonly token: string }): Promise<Account> {
    const workspaceId = newId()
    const response = await fetch(`${server.url}/v1/workspaces`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ workspace_id: workspaceId, name: 'bench' }),
    })
    if (!response.ok) throw new Error(`no workspace: ${response.status} ${await response.text()}`)
    return { url: server.url, token: server.token, workspaceId }
  }

  request(path: string, init: RequestInit = {}): Promise<Response> {
    const { url, token, workspaceId } = this.account
    return fetch(`${url}/v1/workspaces/${workspaceId}${path}`, {
      ...init,
      headers: { authorization: `Bearer ${token}`, [HEADER.device]: this.id, ...init.headers },
    })
  }

  /** Pushes changes of pipelines; throws unless all are stored. */
  async push(items: readonly PushItem[], live = true): Promise<EndItem> {
    const { verdicts, end } = await this.offer(items, live)
    const refused = verdicts.find(verdict => verdict.status !== 'stored')
    if (refused) throw new Error(`a change was refused: ${JSON.stringify(refused)}`)
    return end
  }

  async offer(items: readonly PushItem[], live = true): Promise<{ verdicts: AppendVerdict[]; end: EndItem }> {
    const body = Buffer.concat([
      encodeItem({ v: 1, device_id: this.id, live }),
      ...items.map(({ documentId, bytes }) =>
        encodeItem({ document_id: documentId, kind: 'pipeline', subject: null, base: null, bytes }),
      ),
    ])
    const response = await this.request('/changes', {
      method: 'POST',
      headers: { 'content-type': CBOR_SEQUENCE },
      body,
    })
    if (!response.ok) throw new Error(`push: ${response.status} ${await response.text()}`)
    const answer = decodeSequence(new Uint8Array(await response.arrayBuffer()))
    return {
      verdicts: answer.slice(0, -1).map(item => appendVerdict.parse(item)),
      end: endItem.parse(answer.at(-1)),
    }
  }

  /** Reads live events until the signal; resolves when the stream is open and the server has said where the log is. */
  async listen(
    onEvent: (data: string) => void,
    options: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): Promise<void> {
    const response = await this.request('/events', {
      headers: options.after === undefined ? {} : { 'last-event-id': String(options.after) },
      ...(options.signal ? { signal: options.signal } : {}),
    })
    if (!response.ok) throw new Error(`events: ${response.status} ${await response.text()}`)
    const open = Promise.withResolvers<void>()
    const read = async (): Promise<void> => {
      const decoder = new TextDecoder()
      let text = ''
      for await (const chunk of response.body!) {
        text += decoder.decode(chunk, { stream: true })
        const parts = text.split('\n\n')
        text = parts.pop()!
        for (const part of parts) {
          if (part.startsWith('retry:')) open.resolve()
          const data = part.indexOf('data: ')
          if (data >= 0) onEvent(part.slice(data + 6))
        }
      }
      throw new Error('the stream of events ended')
    }
    read().catch(error => {
      if (options.signal?.aborted) return
      open.reject(error)
      throw error
    })
    await open.promise
  }
}
