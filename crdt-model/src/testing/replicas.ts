import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import {
  addStep,
  addTest,
  editPipeline,
  moveStep,
  removeParam,
  removeStep,
  renameStep,
  restoreStep,
  setParam,
  setStepSetting,
  setTags,
  spliceReport,
  spliceStepSql,
  updateStepSql,
} from '../documents/edit-pipeline.ts'
import type { ChangeRecord } from '../documents/marks.ts'
import type { PipelineDoc } from '../documents/schema.ts'
import { anActor } from './builders.ts'

/** What somebody does on one device, or two devices exchanging what they have. Numbers choose among what is there. */
export type Deed =
  | {
      readonly deed: 'edit'
      readonly device: number
      readonly what: number
      readonly pick: number
      readonly text: string
    }
  | { readonly deed: 'meet'; readonly device: number; readonly other: number }

const DEVICES = 3

/** Random work of three devices on one pipeline. */
export const anyDeeds: fc.Arbitrary<Deed[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        deed: fc.constant('edit' as const),
        device: fc.nat(DEVICES - 1),
        what: fc.nat(10),
        pick: fc.nat(20),
        text: fc.constantFrom('a', 'select 2', '한', '🦆', '\r\n', ''),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        deed: fc.constant('meet' as const),
        device: fc.nat(DEVICES - 1),
        other: fc.nat(DEVICES - 1),
      }),
    },
  ),
  { maxLength: 30 },
)

/** Plays deeds on replicas of one document; every replica afterwards has what it has seen. */
export function playDeeds(
  base: Automerge.Doc<PipelineDoc>,
  deeds: readonly Deed[],
): Automerge.Doc<PipelineDoc>[] {
  const replicas = Array.from({ length: DEVICES }, () => Automerge.clone(base, { actor: anActor() }))
  for (const deed of deeds) {
    const doc = replicas[deed.device]!
    if (deed.deed === 'edit') replicas[deed.device] = editPipeline(doc, 'edit', d => act(d, deed))
    else if (deed.device !== deed.other) replicas[deed.device] = Automerge.merge(doc, replicas[deed.other]!)
  }
  return replicas
}

function act(d: PipelineDoc, { what, pick, text }: Extract<Deed, { deed: 'edit' }>): void {
  const ids = Object.keys(d.steps).sort()
  const id = ids[pick % ids.length]
  if (id === undefined || what === 0) {
    const name = `s${pick}`
    if (!ids.includes(`step-${name}`)) addStep(d, { id: `step-${name}`, name, sql: text })
    return
  }
  const length = d.steps[id]!.sql.length
  const acts: (() => void)[] = [
    () =>
      spliceStepSql(d, id, Math.min(pick, length), Math.min(pick % 3, length - Math.min(pick, length)), text),
    () => updateStepSql(d, id, `${text}${pick}`),
    () => renameStep(d, id, `n${pick}`),
    () => removeStep(d, id),
    () => restoreStep(d, id),
    () => moveStep(d, id, pick % 4),
    () => setStepSetting(d, id, 'materialize', pick % 2 ? 'view' : 'table'),
    () => setParam(d, `p${pick % 2}`, { type: 'integer', default: pick }),
    () => (Object.hasOwn(d.params, 'p0') ? removeParam(d, 'p0') : setTags(d, [text])),
    () => {
      if (pick % 2) spliceReport(d, 0, 0, text)
      else addTest(d, id, { type: 'not_null', column: `c${pick}` })
    },
  ]
  acts[(what - 1) % acts.length]!()
}

/** Server's records for every change of a document, as if each had been written offline and stored in log order. */
export function offlineRecords(
  doc: Automerge.Doc<unknown>,
  authorOf: (actor: string) => string = actor => actor,
): Map<string, ChangeRecord> {
  const records = new Map<string, ChangeRecord>()
  for (const meta of Automerge.getChangesMetaSince(doc, []))
    records.set(meta.hash, {
      seq: records.size + 1,
      received_at: '2026-01-01T00:00:00.000Z',
      live: false,
      author_id: authorOf(meta.actor),
    })
  return records
}
