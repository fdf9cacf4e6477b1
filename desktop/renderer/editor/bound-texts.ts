import { spliceReport, spliceStepSql } from '@pluto-duck/crdt-model'
import type { OpenPipeline } from '../state/open-pipeline.svelte.ts'
import type { BoundText } from './text-binding.ts'

/** The SQL of a step, as an editor's text. */
export function stepSql(open: OpenPipeline, stepId: string): BoundText {
  return {
    path: ['steps', stepId, 'sql'],
    read: () => String(open.doc?.steps[stepId]?.sql ?? ''),
    splice: splices =>
      open.edit(
        'edit sql',
        d => {
          for (const { at, deleteCount, insert } of splices) spliceStepSql(d, stepId, at, deleteCount, insert)
        },
        'editor',
      ),
    onChange: listener => fromOutside(open, listener),
  }
}

/** The Markdown of the report, as an editor's text. */
export function reportText(open: OpenPipeline): BoundText {
  return {
    path: ['report'],
    read: () => String(open.doc?.report ?? ''),
    splice: splices =>
      open.edit(
        'edit report',
        d => {
          for (const { at, deleteCount, insert } of splices) spliceReport(d, at, deleteCount, insert)
        },
        'editor',
      ),
    onChange: listener => fromOutside(open, listener),
  }
}

function fromOutside(open: OpenPipeline, listener: Parameters<BoundText['onChange']>[0]): () => void {
  return open.onChange(({ patches, origin }) => {
    if (origin !== 'editor') listener(patches)
  })
}
