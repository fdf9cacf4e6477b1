import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectHttp, type Session } from '@pluto-duck/engine'
import { type Started, startProgram } from './processes.ts'

/** One server process. */
export interface ServerProcess extends Started<string> {
  readonly url: string
}

export interface Person {
  readonly name: string
  readonly email: string
  readonly userId: string
  readonly token: string
}

/** One host process with its data folder, and a session with it. */
export interface Device extends Started<string> {
  readonly home: string
  readonly session: Session
  /** The address of the app, with its token. */
  readonly url: string
}

/** Folders of one test; all are removed at the end. */
export class Folders {
  readonly #made: string[] = []

  make(name: string): string {
    const folder = mkdtempSync(join(tmpdir(), `pluto-${name}-`))
    this.#made.push(folder)
    return folder
  }

  remove(): void {
    for (const folder of this.#made.splice(0)) rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

const AUTH_SECRET = 'a secret of the tests that is long enough'

/** Starts `pluto-server`. Without a database it runs its own Postgres in `dataDir`. */
export const startServerProcess = async (options: {
  readonly dataDir: string
  readonly databaseUrl?: string
  readonly port?: number
  readonly env?: Record<string, string>
}): Promise<ServerProcess> => {
  const started = await startProgram(
    'sync-server/bin/pluto-server.ts',
    ['start'],
    {
      HOST: '127.0.0.1',
      PORT: String(options.port ?? 0),
      DATA_DIR: options.dataDir,
      SIGNUP: 'open',
      ...(options.databaseUrl ? { DATABASE_URL: options.databaseUrl, AUTH_SECRET } : {}),
      ...options.env,
    },
    text => /listening (\S+)/.exec(text)?.[1] ?? null,
  )
  return { ...started, url: started.ready }
}

export const signUp = async (server: string, name: string): Promise<Person> => {
  const email = `${name.toLowerCase()}@example.com`
  const response = await fetch(`${server}/v1/auth/sign-up/email`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, email, password: `the password of ${name}` }),
  })
  const body = (await response.json()) as { token?: string; user?: { id: string } }
  if (!response.ok || !body.token || !body.user)
    throw new Error(`sign-up of ${name}: ${response.status} ${JSON.stringify(body)}`)
  return { name, email, userId: body.user.id, token: body.token }
}

/** Starts `pluto serve` as a person's device. */
export const startDevice = async (options: {
  readonly home: string
  readonly server: string
  readonly person: Person
  readonly env?: Record<string, string>
}): Promise<Device> => {
  const started = await startProgram(
    'engine/bin/pluto.ts',
    ['serve', '--json'],
    {
      PLUTO_HOME: options.home,
      PLUTO_SERVER: options.server,
      PLUTO_TOKEN: options.person.token,
      ...options.env,
    },
    text => {
      const line = text.split('\n').find(candidate => /^\{"ready":.*\}$/.test(candidate))
      return line ? (JSON.parse(line) as { ready: string }).ready : null
    },
  )
  const address = new URL(started.ready)
  const session = connectHttp(address.origin, address.searchParams.get('token') ?? '')
  return {
    ...started,
    home: options.home,
    url: started.ready,
    session,
    kill: async () => {
      await session.close()
      await started.kill()
    },
    stop: async () => {
      await session.close()
      await started.stop()
    },
  }
}

/** Adds a person to a workspace by an invitation, as they would: the owner invites, the person accepts the link. */
export const acceptInto = async (
  owner: Device,
  server: string,
  person: Person,
  role: 'owner' | 'editor' | 'viewer',
): Promise<void> => {
  const { url } = await owner.session.value('workspace.invite', { email: person.email, role })
  const token = new URL(url).searchParams.get('token') ?? url.split('/').at(-1)
  const response = await fetch(`${server}/v1/invitations/accept`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${person.token}` },
    body: JSON.stringify({ token }),
  })
  if (!response.ok) throw new Error(`accepting an invitation: ${response.status} ${await response.text()}`)
}

/** Waits until `look` gives something else than null or false; fails with what it saw last. */
export const until = async <T>(
  what: string,
  look: () => Promise<T | null | false>,
  ms = 30_000,
): Promise<T> => {
  const end = Date.now() + ms
  let last: unknown
  for (;;) {
    try {
      const value = await look()
      if (value !== null && value !== false) return value
      last = value
    } catch (error) {
      last = error
    }
    if (Date.now() > end)
      throw new Error(
        `waited in vain until ${what}; last: ${last instanceof Error ? last.stack : JSON.stringify(last)}`,
      )
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

/** Syncs until nothing of the device waits; answers its sync state. */
export const inSync = (device: Device) =>
  until('the device is in sync', async () => {
    const state = await device.session.value('sync.now', {})
    return state.waiting === 0 && (state.state === 'in_sync' || state.state === 'needs_you') && state
  })
