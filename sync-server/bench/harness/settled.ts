import type { Bench } from './server.ts'

/** Until the server has compacted what it wants to and made its pages: nothing of both moves for four seconds. Answers the milliseconds. */
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
    if (now !== last) since = performance.now()
    last = now
  }
  return since - started
}
