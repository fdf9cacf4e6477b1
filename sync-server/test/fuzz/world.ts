import { readFileSync } from 'node:fs'
import { CODES } from '@pluto-duck/crdt-model/errors'
import {
  type AppendVerdict,
  CBOR_SEQUENCE,
  decodeSequence,
  encodeSequence,
  HEADER,
  type LogItem,
  newId,
  SequenceReader,
  type SnapshotItem,
} from '@pluto-duck/crdt-model/protocol'
import { type Program, runProgram, startProgram } from '../program.ts'
import type { Corpus } from './corpus.ts'
import { DEVICE, type Input, type Sender } from './inputs.ts'

/** A request that is not answered within this hangs. */
const ANSWER_MS = 120_000
const PEOPLE: readonly Sender[] = ['ann', 'ben', 'vic', 'eve']

interface Person {
  readonly token: string
  readonly device: string
}

export type Outcome =
  | { readonly ok: true; readonly stored: number; readonly status: number }
  | { readonly ok: false; readonly why: string }

/** A server process of its own on a database of its own, with Ann (owner), Ben (editor), Vic (viewer) and Eve (a stranger). */
export class FuzzWorld {
  readonly #server: Program
  readonly #env: Readonly<Record<string, string>>
  readonly #people: ReadonlyMap<Sender, Person>
  readonly workspaceId: string

  private constructor(
    server: Program,
    env: Readonly<Record<string, string>>,
    people: ReadonlyMap<Sender, Person>,
    workspaceId: string,
  ) {
    this.#server = server
    this.#env = env
    this.#people = people
    this.workspaceId = workspaceId
  }

  static async start(databaseUrl: string, dataDir: string): Promise<FuzzWorld> {
    const env = {
      HOST: '127.0.0.1',
      PORT: '0',
      DATABASE_URL: databaseUrl,
      DATA_DIR: dataDir,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
      SIGNUP: 'open',
      LOG_LEVEL: 'error',
    }
    const server = await startProgram(['start'], env)
    const people = new Map<Sender, Person>()
    for (const name of PEOPLE) {
      const { token } = await json<{ token: string }>(`${server.url}/v1/auth/sign-up/email`, {
        body: { name, email: `${name}@example.org`, password: `the password of ${name}` },
      })
      people.set(name, { token, device: newId() })
    }
    const workspaceId = newId()
    const world = new FuzzWorld(server, env, people, workspaceId)
    await world.#post('ann', '/v1/workspaces', { workspace_id: workspaceId, name: 'W' })
    for (const [who, role] of [['ben', 'editor'] as const, ['vic', 'viewer'] as const]) {
      const { token } = await world.#post<{ token: string }>(
        'ann',
        `/v1/workspaces/${workspaceId}/invitations`,
        { invitation_id: newId(), email: `${who}@example.org`, role },
      )
      await world.#post(who, '/v1/invitations/accept', { token })
    }
    return world
  }

  /** Stores the documents that a block's inputs are about. */
  async prepare(corpus: Corpus): Promise<void> {
    const body = encodeSequence([
      { v: 1, device_id: this.#person('ann').device, live: true },
      ...corpus.documents.flatMap(({ documentId, kind, subject, base, history }) =>
        history.map(bytes => ({ document_id: documentId, kind, subject, base, bytes })),
      ),
    ])
    const response = await this.#fetch('ann', `/v1/workspaces/${this.workspaceId}/changes`, {
      method: 'POST',
      headers: { 'content-type': CBOR_SEQUENCE },
      body: Buffer.from(body),
    })
    const verdicts = decodeSequence(
      new Uint8Array(await response.arrayBuffer()),
    ) as unknown as AppendVerdict[]
    const refused = verdicts.filter(one => one.status === 'refused')
    if (response.status !== 200 || refused.length > 0)
      throw new Error(`the corpus was not stored: ${response.status} ${JSON.stringify(refused)}`)
  }

  /** Sends one input and judges the answer: typed, no 5xx, and a push answered change by change. */
  async send(input: Input): Promise<Outcome> {
    const { device } = this.#person(input.as)
    const fill = (text: string): string =>
      text.replaceAll('{workspace}', this.workspaceId).replaceAll('{device}', device)
    const body = input.body === null ? null : this.#fill(input, fill, device)
    let response: Response
    let bytes: Uint8Array
    try {
      response = await this.#fetch(input.as, fill(input.path), {
        method: input.method,
        headers: input.headers,
        ...(body === null ? {} : { body }),
      })
      bytes = new Uint8Array(await response.arrayBuffer())
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
      return { ok: false, why: `no answer: ${String(error)} ${cause}` }
    }
    return judge(response, bytes)
  }

  #fill(input: Input, fill: (text: string) => string, device: string): Buffer {
    const bytes = Buffer.from(input.body as Uint8Array)
    if (!input.path.endsWith('/changes')) return Buffer.from(fill(bytes.toString('latin1')), 'latin1')
    const at = bytes.indexOf(DEVICE)
    if (at >= 0) bytes.set(Buffer.from(device.replaceAll('-', ''), 'hex'), at)
    return bytes
  }

  /** The log above a number, whole. */
  async log(after: number): Promise<{ items: LogItem[]; seq: number }> {
    const items: LogItem[] = []
    for (let at = after; ; ) {
      const response = await this.#fetch('ann', `/v1/workspaces/${this.workspaceId}/changes?after=${at}`, {})
      const page = decodeSequence(new Uint8Array(await response.arrayBuffer()))
      const end = page.pop() as unknown as { seq: number; more: boolean }
      items.push(...(page as unknown as LogItem[]))
      at = end.seq
      if (!end.more) return { items, seq: at }
    }
  }

  /** Every document as a new device gets it: of one that comes twice the first item counts (LOG10). */
  async *snapshot(): AsyncGenerator<SnapshotItem> {
    const response = await this.#fetch('ann', `/v1/workspaces/${this.workspaceId}/snapshot`, {})
    const reader = new SequenceReader()
    let ended = false
    const seen = new Set<string>()
    for await (const chunk of response.body ?? [])
      for (const item of reader.push(chunk)) {
        if (item.end === true) ended = true
        else {
          const document = item as unknown as SnapshotItem
          if (!seen.has(document.document_id)) yield document
          seen.add(document.document_id)
        }
      }
    if (!ended) throw new Error('the snapshot was cut')
  }

  /** Megabytes that the server's process holds, or null where the system does not say. */
  memory(): number | null {
    if (process.platform !== 'linux') return null
    const status = readFileSync(`/proc/${this.#server.child.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
  }

  get alive(): boolean {
    return this.#server.child.exitCode === null && this.#server.child.signalCode === null
  }

  /** What the server wrote about errors of its own. */
  get errors(): string {
    return this.#server.err()
  }

  /** What `pluto-server verify` finds wrong with all that is stored; null when nothing is. */
  async verify(): Promise<string | null> {
    const verify = runProgram(['verify'], { ...this.#env })
    const code = await verify.ended
    return code === 0 ? null : `pluto-server verify ended with ${code}: ${verify.out()}${verify.err()}`
  }

  async stop(): Promise<void> {
    this.#server.child.kill('SIGTERM')
    const late = setTimeout(() => this.#server.child.kill('SIGKILL'), 30_000)
    await this.#server.ended
    clearTimeout(late)
  }

  #person(name: Sender): Person {
    return this.#people.get(name) as Person
  }

  #fetch(as: Sender, path: string, init: RequestInit): Promise<Response> {
    const { token, device } = this.#person(as)
    return fetch(this.#server.url + path, {
      redirect: 'manual',
      signal: AbortSignal.timeout(ANSWER_MS),
      ...init,
      headers: { authorization: `Bearer ${token}`, [HEADER.device]: device, ...init.headers },
    })
  }

  #post<T>(as: Sender, path: string, body: unknown): Promise<T> {
    return json<T>(this.#server.url + path, { body, token: this.#person(as).token })
  }
}

async function json<T>(url: string, { body, token }: { body: unknown; token?: string }): Promise<T> {
  const response = await fetch(url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      origin: `http://localhost:${new URL(url).port}`,
      ...(token ? { authorization: `Bearer ${token}` } : {}),
    },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`)
  return (await response.json()) as T
}

function judge(response: Response, bytes: Uint8Array): Outcome {
  const { status } = response
  const bad = (why: string): Outcome => ({
    ok: false,
    why: `${status}: ${why}: ${Buffer.from(bytes).toString('utf8').slice(0, 500)}`,
  })
  if (status >= 500) return bad('an error of the server')
  if (status >= 400) {
    try {
      const { code, message, hint, request_id } = JSON.parse(Buffer.from(bytes).toString('utf8'))
      const typed =
        Object.hasOwn(CODES, code) && [message, hint, request_id].every(one => typeof one === 'string')
      return typed ? { ok: true, stored: 0, status } : bad('an error that is not typed')
    } catch {
      return bad('an error that is no JSON')
    }
  }
  if (!response.headers.get('content-type')?.startsWith(CBOR_SEQUENCE)) return { ok: true, stored: 0, status }
  const items = decodeSequence(bytes)
  if (items.at(-1)?.end !== true) return bad('an answer without its end')
  return { ok: true, stored: items.filter(item => item.status === 'stored').length, status }
}
