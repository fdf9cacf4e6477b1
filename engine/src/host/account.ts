import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Clock } from '../clock.ts'
import type { OutputOf } from '../contract/index.ts'
import type { Settings } from '../state/index.ts'
import { WireClient } from '../sync/index.ts'
import { endSession, pollDeviceFlow, startDeviceFlow } from './device-flow.ts'

/** Where the session's token is kept: the OS keychain, or PLUTO_TOKEN where there is none. */
export interface TokenStore {
  /** `get` answers a token that was given for this program's life and the server it was given with. It is kept nowhere. */
  readonly given: boolean
  get(): Promise<string | null>
  /** Throws `secret.unavailable` when nothing could keep one. */
  check(): Promise<void>
  /** Throws `secret.unavailable` when nothing can keep it. */
  set(token: string): Promise<void>
  /** Throws when it may still be there. */
  erase(): Promise<void>
}

export interface Person {
  readonly id: string
  readonly name: string
  readonly email: string
}

/** The server that the kept token is for, while that may be another one than the server of this installation; '' for an unknown one. */
const TOKEN_SERVER = 'token_server'

/** Which server this installation talks to, and as whom. Signing in is the device flow of RFC 8628, in the browser. */
export class Account {
  readonly #settings: Settings
  readonly #tokens: TokenStore
  readonly #clock: Clock
  #server: string | null
  #token: string | null = null
  #person: Person | null = null
  /** The keychain has a token that is, or was, used here. */
  #kept = false
  #turn: Promise<unknown> = Promise.resolve()
  /** Sign-ins that were begun here, by their code, with the server that each is for: no other one is ever asked about it. */
  readonly #begun = new Map<string, { readonly server: string; readonly expiresAt: number }>()

  private constructor(settings: Settings, tokens: TokenStore, clock: Clock, server: string | null) {
    this.#settings = settings
    this.#tokens = tokens
    this.#clock = clock
    this.#server = server
  }

  /**
   * A token that was kept for another server is not used, and erased; one that is given is meant for the address given.
   *
   * @param server takes the place of the stored address (PLUTO_SERVER).
   */
  static async open(
    settings: Settings,
    tokens: TokenStore,
    clock: Clock,
    server: string | null,
  ): Promise<Account> {
    const stored = await settings.get('server')
    const account = new Account(settings, tokens, clock, stored === null ? null : addressOf(stored))
    if (server !== null) await account.#moveTo(addressOf(server))
    const tokenServer = await settings.get(TOKEN_SERVER)
    if (tokens.given || tokenServer === null || tokenServer === account.#server) {
      account.#token = await tokens.get()
      account.#kept = !tokens.given && account.#token !== null
      const person = await settings.get('person')
      account.#person = person ? (JSON.parse(person) as Person) : null
      return account
    }
    // One that cannot be erased now is not used either, and is erased at the next start. Where nothing can be read nothing is known
    // to be kept.
    await account.#erase().catch(async () => {
      account.#kept = (await tokens.get().catch(() => null)) !== null
    })
    return account
  }

  get server(): string | null {
    return this.#server
  }
  get token(): string | null {
    return this.#token
  }
  /** Who was signed in last; known offline too. Null when nobody is. */
  get person(): Person | null {
    return this.#token === null ? null : this.#person
  }

  async connect(server: string): Promise<void> {
    const address = addressOf(server)
    await this.#alone(async () => {
      if (await this.#moveTo(address)) await this.forget()
    })
  }

  /** Begins a sign-in. Throws `secret.unavailable` when its outcome could not be kept: better now than after it was allowed. */
  async start(): Promise<OutputOf<'auth.start'>> {
    const server = this.#named()
    await this.#tokens.check().catch((cause: unknown) => {
      throw cannotKeep(cause)
    })
    const started = await startDeviceFlow(server, this.#clock)
    const now = this.#clock.now()
    for (const [code, { expiresAt }] of this.#begun) if (expiresAt < now) this.#begun.delete(code)
    this.#begun.set(started.device_code, { server, expiresAt: Date.parse(started.expires_at) })
    return started
  }

  /**
   * Throws `auth.device_mismatch`, with everything as it was, when this data folder is somebody else's on that server, and `auth.expired`
   * when the server was changed since the sign-in began: it is over then. A code of before a restart is `expired`.
   */
  async poll(deviceCode: string): Promise<OutputOf<'auth.poll'>> {
    const begun = this.#begun.get(deviceCode)
    if (!begun) return { state: 'expired' }
    const { server } = begun
    this.#assertStill(server)
    const answer = await pollDeviceFlow(server, deviceCode)
    if (answer.state === 'pending') {
      this.#assertStill(server)
      return answer
    }
    this.#begun.delete(deviceCode)
    if (answer.state !== 'granted') return answer
    try {
      await this.#assertOwnDevice(server, answer.token)
      await this.#alone(async () => {
        this.#assertStill(server)
        await this.signIn(answer.token)
      })
    } catch (error) {
      // A session that nobody has the token of does no harm: it ends by itself when the server cannot be asked to.
      await endSession(server, answer.token).catch(() => undefined)
      throw error
    }
    return { state: 'signed_in' }
  }

  async signIn(token: string): Promise<void> {
    await this.#tokens.set(token).catch((cause: unknown) => {
      throw cannotKeep(cause)
    })
    await this.#settings.set(TOKEN_SERVER, null)
    this.#token = token
    this.#kept = true
  }

  /** Keeps who is signed in, so that the app says it offline too. */
  async remember(person: Person): Promise<void> {
    this.#person = person
    await this.#settings.set('person', JSON.stringify(person))
  }

  /**
   * Erases the token from this machine. Nobody is signed in any more, whatever happens; throws when the token is still where it is kept,
   * and so the next start would find it.
   */
  async forget(): Promise<void> {
    this.#token = null
    this.#person = null
    await this.#settings.set('person', null)
    // One that was given was never kept; what a keychain has beside it is not this program's to look at.
    if (this.#tokens.given && !this.#kept) return
    try {
      await this.#erase()
    } catch (cause) {
      // A machine without a keychain has kept nothing.
      if (!this.#kept) return
      throw new AppError(
        'secret.unavailable',
        'You are signed out, but the keychain did not erase the token.',
        {
          hint: 'Unlock the keychain and sign out again: `pluto logout`.',
          cause,
        },
      )
    }
  }

  /** One after the other: a sign-in that is under way never ends at another server than it began at. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  /** Takes over the address. What is kept is from then on known as another server's, also after a crash. */
  async #moveTo(address: string): Promise<boolean> {
    if (address === this.#server) return false
    const tokenServer = (await this.#settings.get(TOKEN_SERVER)) ?? this.#server ?? ''
    await this.#settings.set(TOKEN_SERVER, tokenServer)
    await this.#settings.set('server', address)
    await this.#settings.set('person', null)
    this.#server = address
    return true
  }

  async #erase(): Promise<void> {
    await this.#tokens.erase()
    await this.#settings.set(TOKEN_SERVER, null)
    this.#kept = false
  }

  /** A device belongs to one person of a server: with another one's token every call would be refused. */
  async #assertOwnDevice(server: string, token: string): Promise<void> {
    const deviceId = await this.#settings.deviceId()
    const wire = new WireClient({ server, deviceId, token: async () => token })
    try {
      await wire.call(identityRoutes.me, {})
    } catch (error) {
      // Anything else is no verdict on the device, and shows when the token is used.
      if (toAppError(error).code !== 'auth.device_mismatch') return
      throw new AppError('auth.device_mismatch', `This data folder is somebody else’s on ${server}.`, {
        cause: error,
      })
    }
  }

  /** A sign-in ends at the server that it began at, or not at all. */
  #assertStill(server: string): void {
    if (this.#server === server) return
    for (const [code, begun] of this.#begun) if (begun.server === server) this.#begun.delete(code)
    throw new AppError(
      'auth.expired',
      `The sign-in at ${server} is cancelled: this machine uses another server now.`,
      {
        hint: 'Sign in again, at the server that you mean.',
      },
    )
  }

  #named(): string {
    if (this.#server) return this.#server
    throw new AppError('config.invalid', 'No server is set.', {
      hint: 'Name one: `pluto init --server URL`, or PLUTO_SERVER.',
    })
  }
}

const addressOf = (server: string): string => server.replace(/\/+$/, '')

const cannotKeep = (cause: unknown): AppError =>
  new AppError('secret.unavailable', `The sign-in could not be kept: ${toAppError(cause).message}`, {
    hint: 'Unlock the keychain. Where there is none, `pluto login --print-token` gives a token to set as PLUTO_TOKEN.',
    cause,
  })
