import { betterAuth } from 'better-auth'
import { bearer, deviceAuthorization } from 'better-auth/plugins'
import type { Kysely } from 'kysely'
import type { Logger } from 'pino'
import type { Session } from '../app/implement.ts'
import type { Database } from '../database/index.ts'

const DAY_S = 86_400
/** A header of our own: what a client sends under this name is thrown away. */
export const ADDRESS_HEADER = 'x-pluto-client-address'

export interface AuthOptions {
  readonly db: Kysely<Database>
  readonly secret: string
  readonly publicUrl: string
  readonly log: Logger
}

export type Auth = ReturnType<typeof createAuth>

/** People, passwords, sessions and the device flow, by better-auth on our own tables (migration 0001). */
export const createAuth = ({ db, secret, publicUrl, log }: AuthOptions) =>
  betterAuth({
    appName: 'Pluto Duck',
    baseURL: publicUrl,
    basePath: '/v1/auth',
    secret,
    telemetry: { enabled: false },
    trustedOrigins: [publicUrl],
    database: { db, type: 'postgres', transaction: true },
    emailAndPassword: { enabled: true, minPasswordLength: 10, maxPasswordLength: 200 },
    user: {
      modelName: 'users',
      fields: { emailVerified: 'email_verified', createdAt: 'created_at', updatedAt: 'updated_at' },
    },
    session: {
      modelName: 'sessions',
      fields: {
        userId: 'user_id',
        expiresAt: 'expires_at',
        ipAddress: 'ip_address',
        userAgent: 'user_agent',
        createdAt: 'created_at',
        updatedAt: 'updated_at',
      },
      expiresIn: 30 * DAY_S,
      updateAge: DAY_S,
    },
    account: {
      modelName: 'accounts',
      fields: {
        accountId: 'account_id',
        providerId: 'provider_id',
        userId: 'user_id',
        accessToken: 'access_token',
        refreshToken: 'refresh_token',
        idToken: 'id_token',
        accessTokenExpiresAt: 'access_token_expires_at',
        refreshTokenExpiresAt: 'refresh_token_expires_at',
        createdAt: 'created_at',
        updatedAt: 'updated_at',
      },
    },
    verification: {
      modelName: 'verifications',
      fields: { expiresAt: 'expires_at', createdAt: 'created_at', updatedAt: 'updated_at' },
    },
    rateLimit: {
      enabled: true,
      // In the database, so that all server processes count together.
      storage: 'database',
      modelName: 'rate_limits',
      fields: { lastRequest: 'last_request' },
      window: 60,
      max: 300,
      customRules: {
        '/sign-in/email': { window: 60, max: 10 },
        '/sign-up/email': { window: 60, max: 20 },
        '/device': { window: 60, max: 20 },
        '/device/code': { window: 60, max: 30 },
      },
    },
    advanced: {
      cookiePrefix: 'pluto',
      ipAddress: { ipAddressHeaders: [ADDRESS_HEADER] },
    },
    // Needs mail or other providers, which are not there yet.
    disabledPaths: [
      '/sign-in/social',
      '/request-password-reset',
      '/reset-password',
      '/send-verification-email',
      '/verify-email',
      '/change-email',
      '/delete-user',
      '/link-social',
    ],
    plugins: [
      bearer(),
      deviceAuthorization({
        expiresIn: '15m',
        interval: '5s',
        verificationUri: `${publicUrl}/device`,
        validateClient: clientId => /^pluto(-[a-z]+)?$/.test(clientId),
        schema: {
          deviceCode: {
            modelName: 'device_codes',
            fields: {
              deviceCode: 'device_code',
              userCode: 'user_code',
              userId: 'user_id',
              expiresAt: 'expires_at',
              lastPolledAt: 'last_polled_at',
              pollingInterval: 'polling_interval',
              clientId: 'client_id',
            },
          },
        },
      }),
    ],
    logger: {
      level: 'warn',
      // Its messages name addresses of people; only errors are worth that.
      log: (level, message) => {
        if (level === 'error') log.error({ from: 'auth' }, message)
      },
    },
  })

export const findSession =
  (auth: Auth) =>
  async (headers: Headers): Promise<Session | null> => {
    const found = await auth.api.getSession({ headers })
    if (!found) return null
    const { id, email, name } = found.user
    return { sessionId: found.session.id, user: { id, email, name } }
  }
