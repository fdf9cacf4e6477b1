import type { Bench } from './server.ts'

/** So few documents in no page, or changed since theirs was made, that the server makes none for them. */
const FEW = 100

/**
 * Until the server has compacted what it wants to and made its pages: nothing of both moves for four seconds, and few documents
 * are outside: pages are made in one transaction, which for many takes longer. Answers the milliseconds.
 */
export async function settled(bench: Bench, workspaceId: string): Promise<number> {
  const started = performance.now()
  let [last, since] = ['', started]
  while (performance.now() - since < 4_000) {
    await new Promise(resolve => setTimeout(resolve, 200))
    const { rows } = await bench.sql.query<{ now: string }>(
      `select concat(sum(snapshot_seq), ' ', (
         select count(*) || ' ' || sum(seq) from snapshot_pages p where p.workspace_id = $1 and p.replaced_at is null
       )) as now from documents where workspace_id = $1`,
      [workspaceId],
    )
    const now = String(rows[0]?.now)
    if (now !== last || (await outside(bench, workspaceId)) >= FEW) since = performance.now()
    last = now
  }
  return since - started
}

async function outside(bench: Bench, workspaceId: string): Promise<number> {
  const { rows } = await bench.sql.query<{ outside: number }>(
    `select count(*)::int as outside from documents d
     where d.workspace_id = $1 and cardinality(d.heads) > 0 and d.seq > coalesce((
       select p.seq from snapshot_pages p
       where p.workspace_id = $1 and p.replaced_at is null and p.last_id >= d.id
       order by p.last_id limit 1
     ), -1)`,
    [workspaceId],
  )
  return rows[0]!.outside
}
