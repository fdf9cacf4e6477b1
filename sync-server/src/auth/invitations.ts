import { createHash, randomBytes } from 'node:crypto'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Role } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql, type Transaction } from 'kysely'
import { v7 } from 'uuid'
import type { ServerContext } from '../app/context.ts'
import type { EventBus } from '../app/event-bus.ts'
import type { Database } from '../database/index.ts'

export const INVITATION_DAYS = 7
/** A sign-up that claimed an invitation and then died gives it back after this. */
const CLAIM = sql`interval '1 minute'`

/** A token has 256 random bits; only its hash is kept. */
export const newToken = (): { token: string; hash: Buffer } => {
  const token = randomBytes(32).toString('base64url')
  return { token, hash: hashOf(token) }
}
const hashOf = (token: string): Buffer => createHash('sha256').update(token).digest()

export interface OpenInvitation {
  readonly id: string
  /** Null for the first owner's link. */
  readonly workspaceId: string | null
  readonly email: string | null
  readonly role: Role
}

/** The invitation of a token; `invitation.not_found` or `invitation.expired`. Takes nothing. */
export const findInvitation = async (db: Kysely<Database>, token: string): Promise<OpenInvitation> => {
  const row = await db
    .selectFrom('invitations')
    .selectAll()
    .where('token_hash', '=', hashOf(token))
    .executeTakeFirst()
  if (!row || row.revoked_at !== null) {
    throw new AppError('invitation.not_found', 'There is no such invitation.')
  }
  if (row.accepted_by !== null) {
    throw new AppError('invitation.expired', 'This invitation was used already.')
  }
  if (row.expires_at.getTime() <= Date.now()) {
    throw new AppError('invitation.expired', 'This invitation has expired.')
  }
  return { id: row.id, workspaceId: row.workspace_id, email: row.email, role: row.role }
}

/** Takes an invitation for one sign-up, so that two with the same token cannot both go on. */
export const claimInvitation = async (
  db: Kysely<Database>,
  token: string,
  email: string,
): Promise<OpenInvitation> => {
  const invitation = await findInvitation(db, token)
  assertAddress(invitation, email)
  const { rows } = await sql`
    update invitations set accepted_at = now()
    where id = ${invitation.id} and accepted_by is null and revoked_at is null
      and (accepted_at is null or accepted_at < now() - ${CLAIM})
    returning id`.execute(db)
  if (rows.length === 0) throw new AppError('invitation.expired', 'This invitation is being used already.')
  return invitation
}

export const releaseInvitation = async (db: Kysely<Database>, id: string): Promise<void> => {
  await sql`update invitations set accepted_at = null where id = ${id} and accepted_by is null`.execute(db)
}

/** Makes the person a member as the invitation says, and ends it. Who is a member already keeps their role. */
export const useInvitation = async (
  ctx: Pick<ServerContext, 'audit' | 'clock'> & { readonly bus: Pick<EventBus, 'publish'> },
  tx: Transaction<Database>,
  invitation: OpenInvitation,
  userId: string,
  origin: string | null,
): Promise<void> => {
  const { rows } = await sql`
    update invitations set accepted_at = now(), accepted_by = ${userId}
    where id = ${invitation.id} and accepted_by is null and revoked_at is null
    returning id`.execute(tx)
  if (rows.length === 0) throw new AppError('invitation.expired', 'This invitation was used already.')
  const { workspaceId } = invitation
  if (workspaceId === null) return
  await tx
    .insertInto('members')
    .values({
      workspace_id: workspaceId,
      user_id: userId,
      role: invitation.role,
      joined_at: ctx.clock.now(),
    })
    .onConflict(conflict => conflict.columns(['workspace_id', 'user_id']).doNothing())
    .execute()
  await ctx.bus.publish(workspaceId, { type: 'member', user_id: userId }, tx)
  await ctx.audit.record(tx, {
    workspaceId,
    actorUserId: userId,
    origin,
    action: 'invitation.accept',
    objectKind: 'invitation',
    objectId: invitation.id,
    details: { role: invitation.role },
  })
}

/** An invitation is for one address: a link that was passed on lets nobody else in. */
export const assertAddress = (invitation: OpenInvitation, email: string): void => {
  if (invitation.email === null || invitation.email === email.trim().toLowerCase()) return
  throw new AppError('auth.forbidden', 'This invitation is for another email address.', {
    hint: 'Use the address that the invitation was sent to, or ask for one for yours.',
  })
}

/**
 * The link by which the first owner signs up: made anew at every start until somebody has, so that a lost one locks nobody
 * out. Null when there are people already. Servers that start together make one each; the first sign-up ends them all.
 */
export const firstOwnerToken = async (db: Kysely<Database>): Promise<string | null> => {
  const { rows } = await sql`select 1 from users limit 1`.execute(db)
  if (rows.length > 0) {
    await sql`
      update invitations set revoked_at = now()
      where workspace_id is null and accepted_by is null and revoked_at is null`.execute(db)
    return null
  }
  const { token, hash } = newToken()
  await db
    .insertInto('invitations')
    .values({
      id: v7(),
      workspace_id: null,
      email: null,
      role: 'owner',
      token_hash: hash,
      created_by: null,
      expires_at: new Date(Date.now() + INVITATION_DAYS * 86_400_000),
      accepted_at: null,
      accepted_by: null,
      revoked_at: null,
    })
    .execute()
  return token
}

/** After the first sign-up the other owner's links end. */
export const endOwnerLinks = async (db: Kysely<Database>): Promise<void> => {
  await sql`
    update invitations set revoked_at = now()
    where workspace_id is null and accepted_by is null and revoked_at is null`.execute(db)
}
