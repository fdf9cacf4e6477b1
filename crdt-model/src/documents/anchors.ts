import * as Automerge from '@automerge/automerge'
import { z } from 'zod'
import { AppError } from '../errors/index.ts'
import { isMap, stringOf } from './registers.ts'
import type { PipelineDoc } from './schema.ts'

const place = {
  /** Automerge cursor of the first character; for an empty range of what stands at it. */
  from: z.string().min(1).max(200),
  /** Automerge cursor of the last character; null for an empty range. */
  to: z.string().min(1).max(200).nullable(),
  /** What the range read when the comment was made. */
  quote: z.string().max(10_000),
  heads: z.array(z.string()).max(100),
}

/** What a thread is about. */
export const commentAnchor = z.discriminatedUnion('kind', [
  /** The subject as a whole. */
  z.strictObject({ kind: z.literal('subject') }),
  z.strictObject({ kind: z.literal('step'), step_id: z.string().min(1).max(200), ...place }),
  z.strictObject({ kind: z.literal('report'), ...place }),
  /** A line of a run's log, from 1; the quote is redacted as the log is. */
  z.strictObject({
    kind: z.literal('log'),
    line: z.number().int().positive(),
    quote: z.string().max(10_000),
  }),
])
export type CommentAnchor = z.infer<typeof commentAnchor>
export type TextAnchor = Extract<CommentAnchor, { kind: 'step' | 'report' }>

export type ResolvedAnchor =
  | { readonly state: 'at'; readonly from: number; readonly to: number }
  | { readonly state: 'orphaned'; readonly quote: string }

/**
 * Anchors a comment to characters `from` (inclusive) to `to` (exclusive) of a step's SQL, or of the report (`'report'`).
 * Positions count UTF-16 code units and are cut to the text. Throws `step.not_found` when there is no such step.
 */
export function makeAnchor(
  doc: Automerge.Doc<PipelineDoc>,
  target: string,
  from: number,
  to: number,
): TextAnchor {
  const path = pathOf(target)
  const text = textAt(doc, path)
  if (text === undefined) throw new AppError('step.not_found', `There is no step ${target}.`)
  const start = Math.max(0, Math.min(from, text.length))
  const end = Math.max(start, Math.min(to, text.length))
  const anchor = {
    from: Automerge.getCursor(doc, path, start < text.length ? start : 'end'),
    to: end > start ? Automerge.getCursor(doc, path, end - 1) : null,
    quote: text.slice(start, end).toWellFormed().slice(0, 10_000).toWellFormed(),
    heads: [...Automerge.getHeads(doc)],
  }
  return target === 'report' ? { kind: 'report', ...anchor } : { kind: 'step', step_id: target, ...anchor }
}

/**
 * Where an anchor's range is now: it follows the text as it moves, and takes in what is written inside it. Orphaned when all of
 * its characters are gone, its step is removed, or the document lacks the changes that it was made on.
 */
export function resolveAnchor(doc: Automerge.Doc<PipelineDoc>, anchor: TextAnchor): ResolvedAnchor {
  const orphaned = { state: 'orphaned', quote: anchor.quote } as const
  const path = pathOf(anchor.kind === 'report' ? 'report' : anchor.step_id)
  const text = textAt(doc, path)
  if (text === undefined || !Automerge.hasHeads(doc, anchor.heads)) return orphaned
  if (anchor.kind === 'step' && doc.steps[anchor.step_id]?.deleted === true) return orphaned
  try {
    const from = Automerge.getCursorPosition(doc, path, anchor.from)
    if (anchor.to === null) return { state: 'at', from, to: from }
    const last = Automerge.getCursorPosition(doc, path, anchor.to)
    // A deleted character's cursor stands at what follows it: so the range ends before that, or after a living last one.
    const alive = last < text.length && Automerge.getCursor(doc, path, last) === anchor.to
    const to = alive ? last + (text.codePointAt(last)! > 0xffff ? 2 : 1) : last
    return from < to ? { state: 'at', from, to } : orphaned
  } catch {
    // The text object was replaced, or the cursor is none of this text: nothing is left to point at.
    return orphaned
  }
}

const pathOf = (target: string): string[] => (target === 'report' ? ['report'] : ['steps', target, 'sql'])

function textAt(doc: object, path: readonly string[]): string | undefined {
  let held: unknown = doc
  for (const key of path) held = isMap(held) && Object.hasOwn(held, key) ? held[key] : undefined
  return typeof held === 'string' ? stringOf(held) : undefined
}
