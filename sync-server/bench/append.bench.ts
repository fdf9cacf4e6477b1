// A10: 10,000 changes in pushes of 100 through the whole admission (structure, right, trial, commit), one push after another,
// against a bare batched unnest insert of the same rows in commits of 100. Rounds are interleaved; each figure is a median.
import * as Automerge from '@automerge/automerge'
import { serverMigrations } from '@pluto-duck/migrations/server'
import { createDatabase, startPostgres } from '@pluto-duck/test-fixtures/services'
import { Kysely, PostgresDialect, sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import pg from 'pg'
import { v7 } from 'uuid'
import { Trial } from '../src/changes/admission/trial.ts'
import { Appender, type Push } from '../src/changes/append.ts'
import { bareInsertMs } from './harness/bare-insert.ts'
import { median, print } from './harness/figures.ts'

const DOCUMENTS = 20
const PUSHES = process.argv.includes('--full') ? 50 : 5
const PER_PUSH = 100
const TOTAL = DOCUMENTS * PUSHES * PER_PUSH
const ROUNDS = 3
const GOAL = 0.1

/** The changes of somebody who types a SQL text, one change for each keystroke, in pushes. */
function typing(document: number): Uint8Array[][] {
  const text =
    'select region, sum(amount) as revenue from orders_clean where ordered_at >= $from group by all\n'
  let doc = Automerge.init<{ name: Automerge.ImmutableString; sql: string }>({
    actor: v7().replaceAll('-', ''),
  })
  doc = Automerge.change(doc, draft => {
    draft.name = new Automerge.ImmutableString(`pipeline-${document}`)
    draft.sql = ''
  })
  const changes = [Automerge.getLastLocalChange(doc)!]
  for (let i = 0; changes.length < PUSHES * PER_PUSH; i++) {
    doc = Automerge.change(doc, draft => {
      if (i % 10 === 9) Automerge.splice(draft, ['sql'], draft.sql.length - 1, 1)
      else Automerge.splice(draft, ['sql'], draft.sql.length, 0, text[i % text.length])
    })
    changes.push(Automerge.getLastLocalChange(doc)!)
  }
  return Array.from({ length: PUSHES }, (_, i) => changes.slice(i * PER_PUSH, (i + 1) * PER_PUSH))
}

const server = await startPostgres()
const database = await createDatabase(server.url)
const pool = new pg.Pool({ connectionString: database.url, max: 4 })
// Postgres may end before the last connection has closed.
pool.on('error', () => {})
const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
const migrated = await new Migrator({
  db,
  provider: { getMigrations: async () => serverMigrations },
}).migrateToLatest()
if (migrated.error) throw migrated.error
await sql`insert into users (id, name, email) values ('u', 'U', 'u@example.org')`.execute(db)

const written = Array.from({ length: DOCUMENTS }, (_, i) => typing(i))
const device = v7()
/** Round robin, so that each document's next push comes after everybody else's. */
const pushesOf = (workspaceId: string): Push[] => {
  const ids = written.map(() => v7())
  return Array.from({ length: PUSHES }, (_, p) => p).flatMap(p =>
    written.map((pushes, d) => ({
      workspaceId,
      userId: 'u',
      role: 'editor' as const,
      deviceId: device,
      live: true,
      changes: pushes[p]!.map(bytes => ({
        documentId: ids[d]!,
        kind: 'pipeline' as const,
        subject: null,
        base: null,
        bytes,
      })),
    })),
  )
}

async function workspace(): Promise<string> {
  const id = v7()
  await sql`insert into workspaces (id, name, created_by) values (${id}, 'W', 'u')`.execute(db)
  return id
}

const trial = new Trial()

/** Changes a second. `atOnce` pushes wait at the same time. */
async function ours(atOnce: number): Promise<number> {
  const pushes = pushesOf(await workspace())
  const appender = new Appender({ db, trial })
  const started = performance.now()
  const lanes = Array.from({ length: atOnce }, async (_, lane) => {
    for (let i = lane; i < pushes.length; i += atOnce) {
      const { verdicts } = await appender.append(pushes[i]!)
      if (verdicts.some(verdict => verdict.status !== 'stored')) throw new Error('a change was refused')
    }
  })
  await Promise.all(lanes)
  return rate(started)
}

/** The floor: changes a second that one connection inserts bare, in commits of a push. */
async function bare(): Promise<number> {
  const items = pushesOf(v7()).flatMap(push => push.changes)
  return (TOTAL / (await bareInsertMs(pool, items, PER_PUSH))) * 1000
}

const rate = (started: number): number => (TOTAL / (performance.now() - started)) * 1000

const rates = { floor: [] as number[], one: [] as number[], eight: [] as number[] }
await ours(1)
for (let round = 0; round < ROUNDS; round++) {
  rates.floor.push(await bare())
  rates.one.push(await ours(1))
  rates.eight.push(await ours(8))
}
await trial.close()
await db.destroy()
await server.stop()

const floor = median(rates.floor)
const tell = (name: string, value: number): void =>
  print({ name, value, unit: 'changes/s', floor, goal: GOAL, goalOf: 'ratio', better: 'higher' })
tell('append_10k', median(rates.one))
tell('append_10k_eight_pushes_at_once', median(rates.eight))
