import { type AppError, type ErrorBody, type ErrorCode, toAppError } from '@pluto-duck/crdt-model/errors'
import { type VersionSummary, versionSummary } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { type State, unreadable } from '../state/index.ts'
import {
  IDLE,
  type PublishEffect,
  type PublishEvent,
  type PublishNeed,
  type PublishReply,
  type PublishRequest,
  type PublishState,
  publishState,
  step,
} from './machine.ts'

export interface PublisherParts {
  readonly state: State
  readonly clock: Clock
  /** `POST /v1/pipelines`. Throws the server's typed error, or `server.unreachable`. */
  readonly send: (
    request: PublishRequest,
  ) => Promise<{ readonly version: VersionSummary; readonly created: boolean }>
  /** Asks for a sync soon; `ready` follows when it is done. */
  readonly sync: () => void
  /** A version came into being, or something waits for a person. */
  readonly onChange: (pipelineId: string, state: PublishState) => void
  /** What follows from a reply could not be stored; it is asked again. */
  readonly onError: (error: AppError) => void
  /** What was stored of a publish cannot be read: it is not sent, and waits for a person to ask again. */
  readonly onUnreadable: (pipelineId: string, error: AppError) => void
}

/** How long `publish` waits for the outcome before it answers that it is queued. */
const WAIT_MS = 15_000
const STEP_MS = 500

/**
 * Carries the publish machine out: stores each state before its effects, so a process killed at any point goes on from what it
 * had promised. One pipeline is published at a time; pipelines do not wait for each other.
 */
export class Publisher {
  readonly #parts: PublisherParts
  readonly #states = new Map<string, { workspaceId: string; state: PublishState }>()
  /** Workspaces by pipelines whose publish cannot be read. Its record stays until somebody asks anew or puts it aside. */
  readonly #unreadable = new Map<string, string>()
  readonly #queue = new Map<string, Promise<void>>()
  readonly #waiters = new Set<() => void>()

  private constructor(parts: PublisherParts) {
    this.#parts = parts
  }

  static async open(parts: PublisherParts): Promise<Publisher> {
    const publisher = new Publisher(parts)
    const rows = await parts.state.read.all<{ pipeline_id: string; workspace_id: string; state: string }>(
      'select * from publishes',
    )
    for (const { pipeline_id, workspace_id, state: text } of rows) {
      const state = readState(text)
      if (state instanceof Error) {
        publisher.#unreadable.set(pipeline_id, workspace_id)
        parts.onUnreadable(pipeline_id, unreadable('publishes', pipeline_id, state))
        continue
      }
      publisher.#states.set(pipeline_id, { workspaceId: workspace_id, state })
      await publisher.#event(pipeline_id, workspace_id, { kind: 'restarted' })
    }
    return publisher
  }

  /** Resolves with the state that settles the request, or with `queued` when the server can't be reached now. */
  async publish(request: PublishRequest, connected: () => boolean): Promise<PublishState> {
    const { pipeline_id, workspace_id, version_id } = request
    await this.#event(pipeline_id, workspace_id, { kind: 'requested', request })
    // Counted by sleeping: the time of day may jump.
    let left = WAIT_MS
    for (;;) {
      const state = this.of(pipeline_id)
      const settled = state.state === 'published' || state.state === 'needs_you'
      if (settled && state.request.version_id === version_id) {
        // Who asked is being told now, and nothing of it can go on: it does not wait for them any more.
        if (state.state === 'needs_you' && (state.need.kind === 'refused' || state.need.kind === 'invalid'))
          await this.dismiss(pipeline_id)
        return state
      }
      if (state.state === 'idle' || !connected() || left <= 0) return state
      if (!(await this.#changed(STEP_MS))) left -= STEP_MS
    }
  }

  of(pipelineId: string): PublishState {
    return this.#states.get(pipelineId)?.state ?? IDLE
  }

  /** Everything of the workspace is stored on the server: what is queued can be sent. */
  ready(workspaceId: string): void {
    for (const [pipelineId, held] of this.#states) {
      if (held.workspaceId !== workspaceId || held.state.state !== 'queued') continue
      this.#soon(pipelineId, workspaceId, { kind: 'ready' })
    }
  }

  /** Resolves when nothing of the workspace is being sent. What failed meanwhile is told to whoever asked for it, not here. */
  async settled(workspaceId: string): Promise<void> {
    for (const [pipelineId, held] of this.#states)
      if (held.workspaceId === workspaceId) await this.#queue.get(pipelineId)?.catch(() => undefined)
  }

  waiting(workspaceId: string): number {
    const waits = (state: PublishState) => state.state === 'queued' || state.state === 'sending'
    return [...this.#states.values()].filter(held => held.workspaceId === workspaceId && waits(held.state))
      .length
  }

  /** Publishes that wait for a person. */
  needs(workspaceId: string): { pipelineId: string; reason: string }[] {
    const waiting = [...this.#states].flatMap(([pipelineId, { workspaceId: of, state }]) =>
      of === workspaceId && state.state === 'needs_you' ? [{ pipelineId, reason: reasonOf(state.need) }] : [],
    )
    const lost = [...this.#unreadable].filter(([, of]) => of === workspaceId)
    return [...waiting, ...lost.map(([pipelineId]) => ({ pipelineId, reason: UNREADABLE }))]
  }

  /**
   * A person has seen what a publish waited for, or puts it aside: it is not sent, and what would have been published stays as it is.
   * Answers whether one waited for a person.
   */
  async dismiss(pipelineId: string): Promise<boolean> {
    const workspaceId = this.#states.get(pipelineId)?.workspaceId ?? this.#unreadable.get(pipelineId)
    if (workspaceId === undefined) return false
    const waited = this.needs(workspaceId).some(need => need.pipelineId === pipelineId)
    await this.#event(pipelineId, workspaceId, { kind: 'dismissed' })
    return waited
  }

  /** One event after the other for each pipeline: decide, store, then act. */
  #event(pipelineId: string, workspaceId: string, event: PublishEvent): Promise<void> {
    const run = async () => {
      const { state, effects } = step(this.of(pipelineId), event)
      const putAside = event.kind === 'dismissed' && this.#unreadable.has(pipelineId)
      if (state !== this.of(pipelineId) || putAside) {
        await this.#parts.state.write(tx =>
          tx.run(
            'insert or replace into publishes values ($1, $2, $3)',
            pipelineId,
            workspaceId,
            JSON.stringify(state),
          ),
        )
        this.#states.set(pipelineId, { workspaceId, state })
        this.#unreadable.delete(pipelineId)
        for (const wake of [...this.#waiters]) wake()
        this.#parts.onChange(pipelineId, state)
      }
      for (const effect of effects) await this.#act(pipelineId, workspaceId, effect)
    }
    const next = (this.#queue.get(pipelineId) ?? Promise.resolve()).then(run, run)
    this.#queue.set(pipelineId, next)
    return next
  }

  async #act(pipelineId: string, workspaceId: string, effect: PublishEffect): Promise<void> {
    if (effect.do === 'sync') return this.#parts.sync()
    const reply = await this.#send(effect.request)
    // Not awaited: it is queued behind the event that this is part of.
    this.#soon(pipelineId, workspaceId, { kind: 'replied', versionId: effect.request.version_id, reply })
  }

  /**
   * An event that nobody waits for. When the disk does not take what follows from it, it did not happen: a request whose
   * reply could not be kept counts as unanswered, and is sent again.
   */
  #soon(pipelineId: string, workspaceId: string, event: PublishEvent): void {
    this.#event(pipelineId, workspaceId, event).catch((error: unknown) => {
      const { state } = step(this.of(pipelineId), { kind: 'restarted' })
      this.#states.set(pipelineId, { workspaceId, state })
      this.#parts.onError(toAppError(error))
    })
  }

  async #send(request: PublishRequest): Promise<PublishReply> {
    try {
      return { kind: 'stored', ...(await this.#parts.send(request)) }
    } catch (thrown) {
      return replyOf(toAppError(thrown))
    }
  }

  /** Until a state changes, at most so long; false when none did. */
  async #changed(ms: number): Promise<boolean> {
    const changed = new AbortController()
    const wake = () => changed.abort()
    this.#waiters.add(wake)
    await this.#parts.clock.sleep(ms, changed.signal)
    this.#waiters.delete(wake)
    return changed.signal.aborted
  }
}

const readState = (text: string): PublishState | Error => {
  try {
    return publishState.parse(JSON.parse(text))
  } catch (cause) {
    return cause instanceof Error ? cause : new Error(String(cause))
  }
}

const WORDS = {
  marks: 'two people edited the same place',
  moved: 'somebody published meanwhile',
  invalid: 'the server found it invalid',
  refused: 'the server refused it',
} as const
const UNREADABLE = 'what was asked cannot be read any more; publish again'

const reasonOf = (need: PublishNeed): string =>
  'error' in need ? `${WORDS[need.kind]}: ${need.error.message}` : WORDS[need.kind]

const movedDetails = z.object({ current: versionSummary })
const marksDetails = z.object({ marks: z.array(z.object({ id: z.string() })) })

/** Answers that become another one once somebody signs in. */
const AFTER_SIGN_IN = new Set<ErrorCode>(['auth.required', 'auth.expired'])

/** What an error says about a request: settled, or nothing. What the same request can never get past is said, not tried for ever. */
export const replyOf = (error: AppError): PublishReply => {
  const body: ErrorBody = error.toBody()
  switch (error.code) {
    case 'version.parent_moved':
      return { kind: 'moved', current: movedDetails.safeParse(error.details).data?.current ?? null }
    case 'version.unresolved_marks':
      return {
        kind: 'marks',
        markIds: (marksDetails.safeParse(error.details).data?.marks ?? []).map(mark => mark.id),
      }
    case 'version.unknown_heads':
    case 'document.not_found':
    case 'pipeline.not_found':
      return { kind: 'unknown_heads', error: body }
    case 'document.invalid':
    case 'document.too_new':
    case 'request.invalid':
      return { kind: 'invalid', error: body }
    default:
      return error.info.retry === 'later' || AFTER_SIGN_IN.has(error.code)
        ? { kind: 'lost' }
        : { kind: 'refused', error: body }
  }
}
