import type { SyncState } from '@pluto-duck/engine/contract'
import { t } from '../words/index.ts'

/** What waits for a person, in one sentence. */
export function needWords(need: SyncState['needs'][number]): string {
  if (need.kind === 'marks') return t.sync.twoEdited(`${need.steps.join(', ')} (${need.pipeline})`)
  if (need.kind === 'refused') return t.sync.refused(need.title)
  if (need.kind === 'publish') return `${t.sync.publishNeeds(need.pipeline)}: ${need.reason}`
  return t.sync.diverged(need.title)
}
