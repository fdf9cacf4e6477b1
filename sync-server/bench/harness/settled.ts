import type { Bench } from './server.ts'

/** Until the server has compacted what it wants to: no document's snapshot moves for two seconds. Answers the milliseconds. */
export async function settled(bench: Bench, workspaceId: string): Promise<number> {
  const started = performance.now()
  let [last, since] = ['', started]
  while (performance.now() - since < 2_000) {
    await new Promise(resolve => setTimeout(resolve, 200))
    const { rows } = await bench.sql.query<{ now: string }>(
      'select sum(snapshot_seq)::text as now from documents where workspace_id = $1',
      [workspaceId],
    )
    const now = String(rows[0]?.now)
    if (now !== last) since = performance.now()
    last = now
  }
  return since - started
}
