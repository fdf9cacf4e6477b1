import type { Warehouse } from '../warehouse/index.ts'
import type { PlanCatalog } from './make-plan.ts'

/**
 * The warehouse as a plan sees it. `current` is the catalog as it was when this was called; a view has no file, so it is there
 * when it is current.
 */
export async function catalogForPlan(
  warehouse: Warehouse,
  workspaceId: string,
  pipelineId: string,
): Promise<PlanCatalog> {
  const catalog = await warehouse.catalog(workspaceId, pipelineId)
  const pointers = new Map(catalog?.steps.map(({ pointer }) => [pointer.step_id, pointer]))
  const views = new Set(
    [...pointers.values()].flatMap(pointer => (pointer.kind === 'view' ? [pointer.fingerprint] : [])),
  )
  return {
    current: stepId => pointers.get(stepId) ?? null,
    has: async fingerprint =>
      views.has(fingerprint) || (await warehouse.result(workspaceId, fingerprint)) !== null,
  }
}
