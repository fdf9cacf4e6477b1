import { type AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { LIMITS, runRoutes } from '@pluto-duck/crdt-model/protocol'
import { type Clock, isoTime } from '../clock.ts'
import type { OutputOf } from '../contract/index.ts'
import { logPath } from '../logs/index.ts'
import { logBytes } from '../runs/run-journal.ts'
import { isOver, type RunRecord } from '../runs/run-record.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import type { Ledger } from './ledger.ts'
import { readChunk } from './log-chunk.ts'
import { type Delivery, type DeliveryAction, delivery, nextDelivery, type Outgoing } from './next-delivery.ts'
import { explained, isForWantOfSync, judge, pauseAfter, type Verdict } from './retry.ts'
import { sendFile } from './transfer.ts'

interface Parts {
  readonly state: State
  readonly dataFolder: string
  readonly server: ServerCalls
  readonly ledger: Ledger
  readonly clock: Clock
  /** From 0 to 1. Default: Math.random. */
  readonly random?: () => number
  run(runId: string): Promise<RunRecord | null>
  /** Whether a workspace is on the server that is asked now, of the person who is signed in. Nothing of any other is sent. */
  here(workspaceId: string): Promise<boolean>
  /** Called whenever what is known of a run's delivery changed. */
  changed(runId: string): void
  /** Called when a delivery broke off for a fault of this program; it goes on with the next `online`. */
  broken(runId: string, error: unknown): void
}

/** Runs that are sent at the same time. */
const AT_ONCE = 3
const CHUNK_BYTES = LIMITS.logChunkBytes / 2

/**
 * Tells the server about runs: the record, its transitions, the redacted log, and the files that may be shared. What was told is
 * durable, so a crash or a time offline costs nothing; each run goes its own way and never waits for another.
 *
 * Tried again: what can succeed later, with growing pauses, everything when the connection is back, and what the server does not
 * know yet after each sync. Anything else ends the delivery of that run as `refused`, with the server's reason.
 */
export class Deliveries {
  readonly #parts: Parts
  readonly #table: JsonTable<typeof delivery>
  /** Runs of which something is still to be sent, or may be. */
  readonly #open = new Set<string>()
  readonly #going = new Map<string, Promise<void>>()
  readonly #again = new Set<string>()
  /** Runs that somebody wished to send while an attempt was under way: should that fail, another follows at once. */
  readonly #urgent = new Set<string>()
  /** Runs whose last attempt failed for want of a sync. */
  readonly #unsynced = new Set<string>()
  /** How often this machine had synced since the start. */
  #syncs = 0
  readonly #changes = new Map<string, Promise<void>>()
  readonly #waiting: (() => void)[] = []
  /** Runs that wait to be tried again; the wait can be cut short. */
  readonly #pauses = new Map<string, AbortController>()
  /** Resolved, and made anew, each time a run has come to rest. */
  #rested = Promise.withResolvers<void>()
  readonly #closed = new AbortController()
  readonly #random: () => number
  #free = AT_ONCE

  constructor(parts: Parts) {
    this.#parts = parts
    this.#random = parts.random ?? Math.random
    this.#table = new JsonTable(parts.state, 'uploads', delivery)
  }

  get(runId: string): Promise<Delivery | null> {
    return this.#table.get(runId)
  }

  /** Begins to keep a run on the server. Durable when it resolves; nothing is sent before `kick`. */
  async begin(run: RunRecord): Promise<void> {
    if (await this.#table.get(run.run_id)) return
    await this.#put(run, {
      run_id: run.run_id,
      workspace_id: run.workspace_id,
      recorded: null,
      log_offset: 0,
      artifacts: [],
      state: 'active',
      error: null,
    })
  }

  /** Adds files to what is sent, before the run ends. */
  async add(run: RunRecord, artifacts: readonly Outgoing[]): Promise<void> {
    await this.#change(run, sent => {
      const known = new Set(sent.artifacts.map(one => one.name))
      return { ...sent, artifacts: [...sent.artifacts, ...artifacts.filter(one => !known.has(one.name))] }
    })
  }

  /** Sends what is to be sent of a run; one that waits after a failure goes on waiting. Answers at once. */
  kick(runId: string): void {
    if (this.#closed.signal.aborted) return
    if (this.#going.has(runId)) {
      this.#again.add(runId)
      return
    }
    const going = this.#drain(runId)
      .catch(error => this.#parts.broken(runId, error))
      .finally(() => {
        this.#going.delete(runId)
        this.#rest()
        if (this.#again.delete(runId)) this.kick(runId)
      })
    this.#going.set(runId, going)
  }

  /** Reads what earlier starts of the program left to be sent. Call it once, before `online`. */
  async load(): Promise<void> {
    const broken = (error: AppError) => this.#parts.broken(String(error.details?.key), error)
    for (const sent of await this.#table.list({ limit: 100_000 }, broken)) {
      if (sent.state !== 'active') continue
      // Its record was never stored, so there is no such run. One that cannot be read is another matter.
      const run = await this.#parts.run(sent.run_id).catch(() => undefined)
      if (run !== null) this.#open.add(sent.run_id)
      else await this.#table.remove(sent.run_id).catch(error => this.#parts.broken(sent.run_id, error))
    }
  }

  /** The run did not begin: nothing of it is to be sent. What is stored of it goes at the next start. */
  forget(runId: string): void {
    this.#open.delete(runId)
  }

  /** Goes on with everything that is not done, what waits after a failure included: at start-up, and when the connection is back. */
  online(): void {
    for (const runId of this.#open) this.#wake(runId)
  }

  /** This machine and the server have the same documents now: what failed for want of that is tried again. */
  synced(): void {
    this.#syncs += 1
    for (const runId of this.#open) {
      if (this.#unsynced.has(runId)) this.#wake(runId)
      else this.kick(runId)
    }
  }

  /** Runs of which something is still to be sent, or may be, and why those wait whose last attempt failed. */
  async unsent(): Promise<OutputOf<'run.unsent'>> {
    const run_ids = [...this.#open]
    const sent = await this.#table.getAll(run_ids)
    const held = run_ids.flatMap(run_id => {
      const one = sent.get(run_id)
      // Why one of its files was refused is no reason to wait.
      return one?.error && !isPartlyRefused(one) ? [{ run_id, error: one.error }] : []
    })
    return { run_ids, held }
  }

  /** Tries to send what these runs have to send. Resolves when each of them rests, sent or not, and after `ms` at the latest. */
  async deliver(runIds: readonly string[], ms: number): Promise<Delivered[]> {
    for (const runId of runIds) if (this.#open.has(runId)) this.#wake(runId)
    const over = new AbortController()
    let late = false
    const limit = this.#parts.clock.sleep(ms, over.signal).then(() => {
      late = true
    })
    let sending = runIds.filter(runId => this.#isSending(runId))
    while (!late && sending.length > 0) {
      await Promise.race([this.#rested.promise, limit])
      sending = sending.filter(runId => this.#isSending(runId))
    }
    over.abort()
    const sent = await this.#table.getAll(runIds)
    return runIds.flatMap(run_id => {
      const one = sent.get(run_id)
      if (!one) return []
      return [{ run_id, state: sending.includes(run_id) ? 'sending' : restOf(one), error: one.error }]
    })
  }

  /** Resolves when nothing is being sent. */
  async idle(): Promise<void> {
    while (this.#going.size > 0) await Promise.all(this.#going.values())
  }

  async close(): Promise<void> {
    this.#closed.abort()
    for (const pause of this.#pauses.values()) pause.abort()
    for (const go of this.#waiting.splice(0)) go()
    await Promise.all(this.#going.values())
  }

  #wake(runId: string): void {
    const pause = this.#pauses.get(runId)
    if (pause) {
      pause.abort()
      this.#pauses.delete(runId)
    } else if (this.#going.has(runId)) this.#urgent.add(runId)
    this.kick(runId)
  }

  #isSending(runId: string): boolean {
    return this.#going.has(runId) && !this.#pauses.has(runId)
  }

  #rest(): void {
    this.#rested.resolve()
    this.#rested = Promise.withResolvers<void>()
  }

  async #drain(runId: string): Promise<void> {
    let failures = 0
    let syncs = new Set<number>()
    while (!this.#closed.signal.aborted) {
      this.#urgent.delete(runId)
      const [run, sent] = await Promise.all([this.#parts.run(runId), this.#table.get(runId)])
      if (!run || !sent) return
      const isHere = () => this.#parts.here(sent.workspace_id)
      const bytes = await logBytes(this.#parts.dataFolder, runId)
      const action = nextDelivery(run, sent, bytes)
      if (!action) return
      try {
        const after = await this.#turn(async () =>
          (await isHere()) ? await this.#carryOut(action, run, sent) : null,
        )
        failures = 0
        syncs = new Set()
        this.#unsynced.delete(runId)
        if (after === null) return
        await this.#change(run, now => ({ ...after(now), error: isPartlyRefused(now) ? now.error : null }))
      } catch (thrown) {
        // What another server, or this one to somebody else, says of it is no verdict.
        if (this.#closed.signal.aborted || !(await isHere())) return
        const error = toAppError(thrown)
        failures += 1
        if (isForWantOfSync(error)) {
          syncs.add(this.#syncs)
          this.#unsynced.add(runId)
        } else this.#unsynced.delete(runId)
        const verdict = judge(error, { failures, syncs: syncs.size })
        const told = explained(error, verdict)
        await this.#change(run, now => afterFailure(now, action, told, verdict))
        if (verdict === 'refused' && action.do !== 'artifact') return
        if (verdict === 'later' && !this.#urgent.has(runId))
          await this.#pause(runId, pauseAfter(error, failures, this.#random()))
      }
    }
  }

  /** What is known after the action, or null when there is nothing to do for now. */
  async #carryOut(action: DeliveryAction, run: RunRecord, sent: Delivery): Promise<Change | null> {
    const { server } = this.#parts
    const params = { run_id: run.run_id }
    switch (action.do) {
      case 'create': {
        const body = {
          run_id: run.run_id,
          workspace_id: run.workspace_id,
          pipeline_id: run.pipeline_id,
          version: run.version,
          heads: run.heads,
          trigger: run.trigger,
          schedule_id: run.occurrence?.schedule_id ?? null,
          due_at: run.occurrence?.due_at ?? null,
          device_id: run.device_id,
          created_at: run.created_at,
          fencing_token: run.occurrence?.fencing_token ?? null,
        }
        await this.#note(run, 'run', 'record', JSON.stringify(body).length, null)
        const reply = await server.call(runRoutes.create, { body })
        return now => ({ ...now, recorded: reply.state, log_offset: reply.log_bytes })
      }
      case 'transition': {
        const ends = action.to !== 'running'
        const body = {
          to: action.to,
          at: (ends ? run.finished_at : run.started_at) ?? isoTime(this.#parts.clock.now()),
          cause: ends ? run.cause : null,
          failed_step: ends ? run.failed_step : null,
          manifest: ends ? run.manifest : null,
          fencing_token: run.occurrence?.fencing_token ?? null,
        }
        await this.#note(run, 'run', action.to, JSON.stringify(body).length, null)
        const reply = await server.call(runRoutes.transition, { params, body })
        return now => ({ ...now, recorded: reply.state })
      }
      case 'log': {
        const path = logPath(this.#parts.dataFolder, run.run_id)
        const lines = await readChunk(path, run, sent.log_offset, CHUNK_BYTES)
        // A line that is still being written, or what a crash left: nothing that could be sent.
        if (lines === '') return isOver(run) ? this.#withoutRest(run) : null
        await this.#note(run, 'log', `from byte ${sent.log_offset}`, Buffer.byteLength(lines), null)
        const body = { offset: sent.log_offset, lines }
        const reply = await server.call(runRoutes.appendLog, { params, body })
        return now => ({ ...now, log_offset: reply.next_offset })
      }
      case 'artifact':
        await this.#send(run, action.artifact)
        return now => withArtifact(now, action.artifact, 'done')
      case 'finish':
        return now => ({ ...now, state: 'done' })
    }
  }

  async #withoutRest(run: RunRecord): Promise<Change> {
    const log_offset = await logBytes(this.#parts.dataFolder, run.run_id)
    return now => ({ ...now, log_offset })
  }

  async #send(run: RunRecord, artifact: Outgoing): Promise<void> {
    const { server } = this.#parts
    const params = { run_id: run.run_id }
    const { artifact_id, kind, name, content_type, bytes, sha256 } = artifact
    const body = { artifact_id, kind, name, content_type, bytes, sha256 }
    const { upload } = await server.call(runRoutes.createUpload, { params, body })
    if (upload) {
      await this.#note(run, kind, name, bytes, sha256, new URL(upload.url, 'http://server').host)
      await sendFile(upload, artifact.path, this.#closed.signal)
    }
    await server.call(runRoutes.registerArtifact, { params, body })
  }

  #note(
    run: RunRecord,
    what: string,
    name: string,
    bytes: number,
    sha256: string | null,
    destination = 'server',
  ): Promise<void> {
    const at = isoTime(this.#parts.clock.now())
    const key = `${run.run_id}/${what}/${name}${what === 'log' ? `/${bytes}` : ''}`
    return this.#parts.ledger.write(key, { at, run_id: run.run_id, what, name, destination, bytes, sha256 })
  }

  /** Changes what is known, one change of a run after the other: files are added while the log is being sent. */
  #change(run: RunRecord, change: Change): Promise<void> {
    const before = this.#changes.get(run.run_id) ?? Promise.resolve()
    const changed = before.then(async () => {
      const sent = await this.#table.get(run.run_id)
      if (sent) await this.#put(run, change(sent))
    })
    const settled = changed.catch(() => undefined)
    this.#changes.set(run.run_id, settled)
    void settled.then(() => {
      if (this.#changes.get(run.run_id) === settled) this.#changes.delete(run.run_id)
    })
    return changed
  }

  async #put(run: RunRecord, sent: Delivery): Promise<void> {
    if (sent.state === 'active') this.#open.add(run.run_id)
    else {
      this.#open.delete(run.run_id)
      this.#unsynced.delete(run.run_id)
    }
    await this.#table.put(run.run_id, { parent: run.workspace_id, at: run.created_at }, sent)
    this.#parts.changed(run.run_id)
  }

  /** Waits for one of the places in which runs are sent. */
  async #turn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>(resolve => this.#waiting.push(resolve))
    else this.#free -= 1
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free += 1
    }
  }

  async #pause(runId: string, ms: number): Promise<void> {
    const pause = new AbortController()
    this.#pauses.set(runId, pause)
    this.#rest()
    await this.#parts.clock.sleep(ms, pause.signal)
    if (this.#pauses.get(runId) === pause) this.#pauses.delete(runId)
  }
}

type Delivered = OutputOf<'run.deliver'>['runs'][number]

const restOf = ({ state, artifacts }: Delivery): Delivered['state'] => {
  if (state === 'refused') return 'refused'
  if (state === 'active') return 'waiting'
  return artifacts.some(one => one.state === 'refused') ? 'refused' : 'sent'
}

type Change = (sent: Delivery) => Delivery
function afterFailure(sent: Delivery, action: DeliveryAction, error: AppError, verdict: Verdict): Delivery {
  // Why a file was refused says more than what passes.
  const keeps = verdict !== 'refused' && isPartlyRefused(sent)
  const failed = { ...sent, error: keeps ? sent.error : error.toBody() }
  const offset = error.details?.next_offset
  if (error.code === 'run.log_offset' && typeof offset === 'number') return { ...failed, log_offset: offset }
  if (verdict !== 'refused') return failed
  // One file that is refused, or is no longer here, keeps no other from being sent.
  if (action.do === 'artifact') return withArtifact(failed, action.artifact, 'refused')
  return { ...failed, state: 'refused' }
}

/** Why a file was refused is shown for as long as the run is. */
const isPartlyRefused = (sent: Delivery): boolean => sent.artifacts.some(one => one.state === 'refused')

const withArtifact = (sent: Delivery, artifact: Outgoing, state: Outgoing['state']): Delivery => ({
  ...sent,
  artifacts: sent.artifacts.map(one => (one.artifact_id === artifact.artifact_id ? { ...one, state } : one)),
})
