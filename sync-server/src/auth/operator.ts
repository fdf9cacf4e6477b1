import { randomInt } from 'node:crypto'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { hashPassword } from 'better-auth/crypto'
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Clock } from '../app/context.ts'
import type { Audit } from '../audit/index.ts'
import { type Database, transact } from '../database/index.ts'

/**
 * What whoever runs the server needs to do something to accounts: there is no HTTP way to it. Ended sessions are over on a running
 * server within the time for which that reuses an answer about a session (Access).
 */
export interface OperatorParts {
  readonly db: Kysely<Database>
  readonly audit: Audit
  readonly clock: Clock
}

export interface SignedOut {
  /** Null: everybody. */
  readonly email: string | null
  /** Sessions that ended: apps, command lines, browsers. */
  readonly sessions: number
}

export interface NewPassword extends SignedOut {
  readonly email: string
  /** In this answer only; stored is its hash. */
  readonly password: string
}

/**
 * Gives somebody a new random password, also one who had none, and ends their sessions, as the old password may be known to others.
 * Throws `member.not_found` when nobody has that address.
 */
export const resetPassword = async (parts: OperatorParts, email: string): Promise<NewPassword> => {
  const { db, clock } = parts
  const password = newPassword()
  const hash = await hashPassword(password)
  return await transact(db, async tx => {
    const person = await findPerson(tx, email)
    const { rows } = await sql`
      update accounts set password = ${hash}, updated_at = ${clock.now()}
      where user_id = ${person.id} and provider_id = 'credential' returning id`.execute(tx)
    if (rows.length === 0)
      await sql`
        insert into accounts (id, account_id, provider_id, user_id, password)
        values (${newId()}, ${person.id}, 'credential', ${person.id}, ${hash})`.execute(tx)
    const sessions = await endSessions(tx, person)
    await record(tx, parts, 'account.reset_password', person, { sessions })
    return { email: person.email, password, sessions }
  })
}

/** Ends the sessions of one person, or everybody's; sign-ins that are under way end as well. */
export const signOut = async (parts: OperatorParts, email: string | null): Promise<SignedOut> =>
  await transact(parts.db, async tx => {
    const person = email === null ? null : await findPerson(tx, email)
    const sessions = await endSessions(tx, person)
    await record(tx, parts, 'account.sign_out', person, { sessions })
    return { email: person?.email ?? null, sessions }
  })

interface Person {
  readonly id: string
  readonly email: string
}

const findPerson = async (tx: Transaction<Database>, email: string): Promise<Person> => {
  const address = email.trim().toLowerCase()
  const found = await tx
    .selectFrom('users')
    .select(['id', 'email'])
    .where('email', '=', address)
    .forUpdate()
    .executeTakeFirst()
  if (found) return found
  throw new AppError('member.not_found', `Nobody has an account with the address ${address}.`, {
    hint: 'Check the address. Who has no account yet is invited: `pluto workspace invite EMAIL`.',
  })
}

const endSessions = async (tx: Transaction<Database>, person: Person | null): Promise<number> => {
  await (person === null
    ? sql`delete from device_codes`.execute(tx)
    : sql`delete from device_codes where user_id = ${person.id}`.execute(tx))
  const query = tx.deleteFrom('sessions')
  const { numDeletedRows } = await (person === null
    ? query
    : query.where('user_id', '=', person.id)
  ).executeTakeFirstOrThrow()
  return Number(numDeletedRows)
}

/** A row in the audit of each workspace that it concerns; always in one order, so that two at once wait for each other. */
const record = async (
  tx: Transaction<Database>,
  { audit }: OperatorParts,
  action: string,
  person: Person | null,
  details: Record<string, unknown>,
): Promise<void> => {
  const query = tx.selectFrom('members').select('workspace_id').distinct().orderBy('workspace_id')
  const rows = await (person === null ? query : query.where('user_id', '=', person.id)).execute()
  for (const { workspace_id: workspaceId } of rows)
    await audit.record(tx, {
      workspaceId,
      actorUserId: null,
      action,
      objectKind: 'user',
      objectId: person?.id ?? null,
      details,
    })
}

/** Letters and digits that are not taken for one another when they are read aloud: 20 of 31, 99 bits. */
const ALPHABET = 'abcdefghjkmnpqrstuvwxyz23456789'

const newPassword = (): string =>
  Array.from({ length: 4 }, () =>
    Array.from({ length: 5 }, () => ALPHABET[randomInt(ALPHABET.length)]).join(''),
  ).join('-')
