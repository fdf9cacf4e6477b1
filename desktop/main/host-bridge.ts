import type { ErrorBody, Result } from '@pluto-duck/engine/contract'
import type { HostAddress } from './host-process.ts'

/** Calls of the window, handed to the host over loopback; the token stays in this process. */
export interface HostBridge {
  call(method: string, input: unknown): Promise<Result<unknown>>
  close(): void
}

const RETRY_MS = 1000
const away: ErrorBody = {
  code: 'host.unreachable',
  message: 'The local host does not answer.',
  hint: 'It is started again by itself; what was stored is safe.',
}

/** `tell` gets each event of the host as the contract has it, `connected` whether its stream is there. */
export function bridgeTo(
  address: HostAddress,
  view: string,
  tell: (event: unknown) => void,
  connected: (connected: boolean) => void,
): HostBridge {
  const headers = { authorization: `Bearer ${address.token}`, 'x-pluto-view': view }
  const closing = new AbortController()

  const listen = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      try {
        const reply = await fetch(`${address.origin}/api/events`, { headers, signal: closing.signal })
        if (reply.ok && reply.body) {
          connected(true)
          for await (const data of eventsOf(reply.body)) tell(JSON.parse(data))
        }
      } catch {
        // The stream broke or the host went away: say so below and try again.
      }
      if (closing.signal.aborted) return
      connected(false)
      await new Promise(resolve => setTimeout(resolve, RETRY_MS))
    }
  }
  void listen()

  return {
    async call(method, input) {
      try {
        const reply = await fetch(`${address.origin}/api/call/${method}`, {
          method: 'POST',
          headers: { ...headers, 'content-type': 'application/json' },
          body: JSON.stringify(input),
        })
        return (await reply.json()) as Result<unknown>
      } catch {
        return { ok: false, error: away }
      }
    },
    close: () => closing.abort(),
  }
}

/** The `data:` of each event of an SSE stream; comments and other fields are passed over. */
export async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let held = ''
  let data: string[] = []
  for await (const chunk of body) {
    held += decoder.decode(chunk, { stream: true })
    const lines = held.split(/\r\n|\n/)
    held = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
      } else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''))
    }
  }
}
