import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import { type Clock, isoTime } from '../clock.ts'
import type { OutputOf } from '../contract/index.ts'
import type { Settings } from '../state/index.ts'

/** Where the session's token is kept: the OS keychain, or PLUTO_TOKEN where there is none. */
export interface TokenStore {
  get(): Promise<string | null>
  /** Throws `secret.unavailable` when nothing can keep it. */
  set(token: string): Promise<void>
  /** Throws when it may still be there. */
  erase(): Promise<void>
}

const CLIENT_ID = 'pluto'
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const TIMEOUT_MS = 15_000

const started = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in: z.number(),
  interval: z.number(),
})
const granted = z.object({ access_token: z.string() })
const refused = z.object({ error: z.string() })

export interface Person {
  readonly id: string
  readonly name: string
  readonly email: string
}

/** Which server this installation talks to, and as whom. Signing in is the device flow of RFC 8628, in the browser. */
export class Account {
  readonly #settings: Settings
  readonly #tokens: TokenStore
  readonly #clock: Clock
  #server: string | null
  #token: string | null
  #person: Person | null
  /** A token that could not be erased is still in the keychain. */
  #kept = false

  private constructor(
    settings: Settings,
    tokens: TokenStore,
    clock: Clock,
    server: string | null,
    token: string | null,
    person: Person | null,
  ) {
    this.#settings = settings
    this.#tokens = tokens
    this.#clock = clock
    this.#server = server
    this.#token = token
    this.#person = person
  }

  /** @param server takes the place of the stored address (PLUTO_SERVER). */
  static async open(
    settings: Settings,
    tokens: TokenStore,
    clock: Clock,
    server: string | null,
  ): Promise<Account> {
    const kept = await settings.get('server')
    const person = await settings.get('person')
    const address = server ?? kept
    if (address !== kept) await settings.set('server', address)
    return new Account(
      settings,
      tokens,
      clock,
      address,
      await tokens.get(),
      person ? (JSON.parse(person) as Person) : null,
    )
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
    const address = server.replace(/\/+$/, '')
    if (address === this.#server) return
    await this.#settings.set('server', address)
    this.#server = address
    await this.forget()
  }

  async start(): Promise<OutputOf<'auth.start'>> {
    const reply = await this.#post('/v1/auth/device/code', { client_id: CLIENT_ID })
    if (!reply.ok)
      throw new AppError('server.unreachable', `${this.#server} did not start a sign-in (${reply.status}).`)
    const code = started.parse(reply.body)
    return {
      verification_url: code.verification_uri_complete ?? code.verification_uri,
      user_code: code.user_code,
      device_code: code.device_code,
      interval_s: code.interval,
      expires_at: isoTime(this.#clock.now() + code.expires_in * 1000),
    }
  }

  async poll(deviceCode: string): Promise<OutputOf<'auth.poll'>> {
    const reply = await this.#post('/v1/auth/device/token', {
      grant_type: DEVICE_GRANT,
      device_code: deviceCode,
      client_id: CLIENT_ID,
    })
    if (reply.ok) {
      await this.signIn(granted.parse(reply.body).access_token)
      return { state: 'signed_in' }
    }
    const error = refused.safeParse(reply.body).data?.error
    if (error === 'authorization_pending') return { state: 'pending', interval_s: 5 }
    if (error === 'slow_down') return { state: 'pending', interval_s: 10 }
    if (error === 'access_denied') return { state: 'denied' }
    if (error === 'expired_token' || error === 'invalid_grant') return { state: 'expired' }
    throw new AppError('server.unreachable', `${this.#server} did not answer the sign-in (${reply.status}).`)
  }

  async signIn(token: string): Promise<void> {
    await this.#tokens.set(token)
    this.#token = token
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
    const had = this.#token !== null || this.#kept
    this.#token = null
    this.#person = null
    await this.#settings.set('person', null)
    try {
      await this.#tokens.erase()
      this.#kept = false
    } catch (cause) {
      // A machine without a keychain has kept nothing.
      if (!had) return
      this.#kept = true
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

  async #post(path: string, body: unknown): Promise<{ ok: boolean; status: number; body: unknown }> {
    if (!this.#server)
      throw new AppError('config.invalid', 'No server is set.', {
        hint: 'Name one: `pluto init --server URL`, or PLUTO_SERVER.',
      })
    try {
      const response = await fetch(`${this.#server}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      })
      return { ok: response.ok, status: response.status, body: await response.json().catch(() => null) }
    } catch (cause) {
      throw new AppError('server.unreachable', `${this.#server} does not answer.`, { cause })
    }
  }
}
