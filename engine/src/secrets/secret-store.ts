import { randomUUID } from 'node:crypto'
import { AppError } from '@pluto-duck/crdt-model/errors'

/**
 * Secrets by name: connection strings, tokens, the session. They live in the OS keychain and nowhere else; a machine without
 * one (an agent in a container) gives them as `PLUTO_SECRET_<NAME>`, which is read and never written.
 */
export interface SecretStore {
  /** The environment's value, else the keychain's; null when neither has it. Throws `secret.unavailable` for a locked keychain. */
  get(name: string): Promise<string | null>
  /** Throws `secret.unavailable` when nothing could be kept now. */
  check(): Promise<void>
  /** Throws `secret.unavailable` when nothing can keep it. */
  set(name: string, value: string): Promise<void>
  /** Not having it is no error. */
  remove(name: string): Promise<void>
  /** Names only, sorted; what this program keeps for itself is not among them. */
  list(): Promise<string[]>
}

/** The part of keytar that is used. */
interface Keychain {
  getPassword(service: string, account: string): Promise<string | null>
  setPassword(service: string, account: string, password: string): Promise<void>
  deletePassword(service: string, account: string): Promise<boolean>
  findCredentials(service: string): Promise<{ account: string; password: string }[]>
}

export interface SecretOptions {
  /** The data folder: each has its own secrets. */
  readonly folder: string
  readonly env?: NodeJS.ProcessEnv
}

/** A name that people can use; others are this program's own. */
const PUBLIC_NAME = /^[A-Z][A-Z0-9_]{0,62}$/
const ENV_PREFIX = 'PLUTO_SECRET_'
/** A provider that shows a dialog nobody answers must not hold the host up. */
const TIMEOUT_MS = 10_000

/** Opens the store. Never fails: whether there is a keychain shows when one is needed. */
export const openSecrets = async ({ folder, env = process.env }: SecretOptions): Promise<SecretStore> => {
  const service = `pluto-duck ${folder}`
  const keychain = await loadKeychain()

  const ask = async <T>(work: (keychain: Keychain) => Promise<T>): Promise<T> => {
    if (!keychain) throw unavailable('This installation has no keychain module.')
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error('no answer')), TIMEOUT_MS)
    try {
      return await Promise.race([work(keychain), late.promise])
    } catch (cause) {
      throw unavailable('The keychain of this machine does not answer.', cause)
    } finally {
      clearTimeout(timer)
    }
  }

  /** A locked keychain says that a secret is missing; only a write tells the truth. */
  const probe = async (): Promise<void> => {
    const account = `probe ${randomUUID()}`
    await ask(async chain => {
      await chain.setPassword(service, account, 'probe')
      await chain.deletePassword(service, account)
    })
  }

  return {
    get: async name => {
      const given = env[ENV_PREFIX + name]
      if (given !== undefined) return given
      if (!keychain) return null
      const value = await ask(chain => chain.getPassword(service, name))
      if (value === null) await probe()
      return value
    },
    check: probe,
    set: (name, value) => ask(chain => chain.setPassword(service, name, value)),
    remove: async name => {
      if (keychain) await ask(chain => chain.deletePassword(service, name))
    },
    list: async () => {
      const names = Object.keys(env)
        .filter(key => key.startsWith(ENV_PREFIX))
        .map(key => key.slice(ENV_PREFIX.length))
      if (keychain) {
        const found = await ask(chain => chain.findCredentials(service))
        if (found.length === 0) await probe()
        names.push(...found.map(credential => credential.account))
      }
      return [...new Set(names)].filter(name => PUBLIC_NAME.test(name)).sort()
    },
  }
}

const unavailable = (message: string, cause?: unknown): AppError =>
  new AppError('secret.unavailable', message, cause === undefined ? {} : { cause })

/** keytar is an optional dependency: where it could not be built there is no keychain. */
const loadKeychain = async (): Promise<Keychain | null> => {
  try {
    const module = (await import('keytar')) as unknown as { default?: Keychain } & Keychain
    return module.default ?? module
  } catch {
    return null
  }
}
