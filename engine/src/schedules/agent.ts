import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { newId, type Occurrence, scheduleRoutes } from '@pluto-duck/crdt-model/protocol'
import { type Clock, isoTime } from '../clock.ts'
import type { RunService } from '../runs/index.ts'
import type { Settings } from '../state/index.ts'
import type { WireClient } from '../sync/index.ts'
import { Claims } from './claims.ts'
import { type Claim, choose, judge, nextStep, type Outcome, pauseMs, type Step } from './plan.ts'

type Log = (facts: Record<string, unknown>, message: string) => void

export interface ScheduleAgentParts {
  readonly deviceId: string
  readonly settings: Settings
  readonly clock: Clock
  readonly log: { readonly info: Log; readonly warn: Log; readonly error: Log }
  /** Null while there is nobody to ask: no server, nobody signed in, or sync is paused. */
  readonly client: () => WireClient | null
  /** The open workspace; null when it is not on a server. */
  readonly workspaceId: () => string | null
  /** Whether a workspace is on the server that is asked now, of the person who is signed in. */
  readonly own: (workspaceId: string) => Promise<boolean>
  readonly knows: (pipelineId: string) => boolean
  readonly runs: Pick<RunService, 'obstacle' | 'start' | 'here' | 'ended' | 'cancel'>
  /** From 0 to 1. Default: Math.random. */
  readonly random?: () => number
}

/** The least time between two looks or tries, however often it is woken. */
const GAP_MS = 1_000

/**
 * Runs on this machine what is due on the server. It looks every 30 s, and sooner when woken; what it holds it says again at each
 * look, which keeps the lease. What it took is durable before it acts on it, so a restart goes on or says what became of it.
 * Nothing is asked of a person: what is not allowed here is skipped, with the reason.
 */
export class ScheduleAgent {
  readonly #p: ScheduleAgentParts
  readonly #claims: Claims
  readonly #random: () => number
  readonly #stop = new AbortController()
  readonly #stopped = Promise.withResolvers<void>()
  readonly #going = new Set<Promise<void>>()
  /** Runs of the claims that somebody sees through here. One that broke off is held no more: another agent may take it. */
  readonly #carried = new Set<string>()
  #wake = new AbortController()
  #loop: Promise<void> | null = null
  #due: readonly Occurrence[] = []
  #etag: string | null = null
  #failures = 0
  /** Claims that wait for the server to answer. */
  #waiting = 0

  private constructor(parts: ScheduleAgentParts, claims: Claims) {
    this.#p = parts
    this.#claims = claims
    this.#random = parts.random ?? Math.random
    this.#stop.signal.addEventListener('abort', () => this.#stopped.resolve(), { once: true })
  }

  static async open(parts: ScheduleAgentParts): Promise<ScheduleAgent> {
    const broken = (error: AppError) => parts.log.error({ err: error }, 'what was held cannot be read')
    return new ScheduleAgent(parts, await Claims.open(parts.settings, broken))
  }

  /** Begins, with what an earlier start of the program left. */
  start(): void {
    if (this.#loop || this.#stop.signal.aborted) return
    for (const claim of this.#claims.list()) this.#carry(claim)
    this.#loop = this.#run()
  }

  /** Something about schedules changed: look soon. */
  wake(): void {
    this.#failures = 0
    this.#wake.abort()
  }

  /** The connection works: what failed is tried again now. */
  online(): void {
    if (this.#failures > 0 || this.#waiting > 0) this.wake()
  }

  /** Ends without waiting for runs; the next start says what became of them. */
  async close(): Promise<void> {
    this.#stop.abort()
    this.#wake.abort()
    await this.#loop
    await Promise.all(this.#going)
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController()
      try {
        await this.#look()
        this.#failures = 0
      } catch (thrown) {
        if (this.#stop.signal.aborted) return
        this.#failures += 1
        const { code } = toAppError(thrown)
        if (code === 'internal') this.#p.log.error({ err: thrown }, 'what is due could not be looked up')
        else this.#p.log.info({ code, failures: this.#failures }, 'what is due could not be looked up')
      }
      await this.#pause(pauseMs(this.#failures, this.#random()))
    }
  }

  async #look(): Promise<void> {
    const client = this.#p.client()
    if (!client) return
    for (const claim of await this.#own()) await this.#hold(client, claim)
    await this.#takeUp()
    const query = { agent_id: this.#p.deviceId }
    const answer = await client.callIfChanged(scheduleRoutes.due, { query }, this.#etag, this.#options)
    if (answer) {
      this.#due = answer.value.due
      this.#etag = answer.etag
    }
    const { workspaceId, knows } = this.#p
    const held = await this.#own()
    for (const occurrence of choose({ due: this.#due, held, workspaceId: workspaceId(), knows })) {
      await this.#claim(client, occurrence)
    }
  }

  /** What is held of the server that is asked. Of any other nothing is said, and nothing is left for its sake. */
  async #own(): Promise<Claim[]> {
    const claims = this.#claims.list()
    const own = await Promise.all(claims.map(claim => this.#p.own(claim.workspace_id)))
    return claims.filter((_, index) => own[index])
  }

  async #claim(client: WireClient, occurrence: Occurrence): Promise<void> {
    const { schedule_id, due_at } = occurrence
    this.#due = this.#due.filter(one => one !== occurrence)
    this.#etag = null
    // Without a place for the claim the lease would only keep others from it.
    await this.#claims.check(isoTime(this.#p.clock.now()))
    try {
      const { fencing_token } = await this.#lease(client, occurrence)
      const claim: Claim = { ...occurrence, fencing_token, run_id: newId(), state: 'claimed', outcome: null }
      await this.#claims.put(claim)
      this.#p.log.info({ schedule_id, due_at }, 'a scheduled run was taken')
      this.#carry(claim)
    } catch (thrown) {
      // Another agent was faster, or it was switched off meanwhile.
      if (judge(thrown).verdict !== 'lost') throw thrown
    }
  }

  /** What broke off goes on from what is stored, as after a restart, once something can be stored again. */
  async #takeUp(): Promise<void> {
    const left = this.#claims.list().filter(({ run_id }) => !this.#carried.has(run_id))
    if (left.length === 0) return
    await this.#claims.check(isoTime(this.#p.clock.now()))
    for (const claim of left) this.#carry(claim)
  }

  /** Keeps the lease of what is held. */
  async #hold(client: WireClient, claim: Claim): Promise<void> {
    if (claim.outcome || !this.#carried.has(claim.run_id)) return
    try {
      const { fencing_token } = await this.#lease(client, claim)
      if (fencing_token !== claim.fencing_token) {
        // It had run out and was taken here anew. A run under the old token counts for nothing.
        if (claim.state === 'started') await this.#lose(claim, 'schedule.lease')
        else await this.#claims.change(claim, { fencing_token })
      }
    } catch (thrown) {
      const { error, verdict } = judge(thrown)
      if (verdict !== 'lost') throw thrown
      const now = this.#claims.current(claim)
      // What ended while this was asked is held no more, and is no loss.
      if (now && !now.outcome) await this.#lose(now, error.code)
    }
  }

  async #lease(
    client: WireClient,
    { schedule_id, due_at }: Pick<Claim, 'schedule_id' | 'due_at'>,
  ): Promise<{ fencing_token: number }> {
    const params = { schedule_id }
    const body = { agent_id: this.#p.deviceId, due_at }
    return (await client.call(scheduleRoutes.claim, { params, body }, this.#options)).value
  }

  /** Sees a claim through to its end, beside the others. */
  #carry(claim: Claim): void {
    this.#carried.add(claim.run_id)
    const going = this.#seeThrough(claim)
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted) this.#p.log.error({ err: error }, 'a scheduled run broke off')
      })
      .finally(() => {
        this.#going.delete(going)
        this.#carried.delete(claim.run_id)
        // The schedule is free for its next occurrence.
        if (this.#claims.current(claim) === null) this.wake()
      })
    this.#going.add(going)
  }

  async #seeThrough(taken: Claim): Promise<void> {
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      const claim = this.#claims.current(taken)
      if (!claim) return
      const step = nextStep(claim, await this.#p.runs.here(claim.run_id))
      try {
        await this.#take(step, claim)
        failures = 0
      } catch (thrown) {
        if (this.#stop.signal.aborted) return
        const { error, verdict } = judge(thrown)
        if (verdict === 'lost') await this.#lose(claim, error.code)
        else if (verdict === 'later') {
          this.#waiting += 1
          await this.#pause(pauseMs(++failures, this.#random()))
          this.#waiting -= 1
        } else await this.#giveUp(step, claim, error)
      }
    }
  }

  async #take(step: Step, claim: Claim): Promise<void> {
    const { runs } = this.#p
    switch (step.do) {
      case 'announce': {
        const reason = await runs.obstacle(claim.pipeline_id, claim.version)
        if (reason !== null) return await this.#end(claim, { state: 'skipped', reason: short(reason) })
        await this.#ack(claim, 'started', null)
        return await this.#claims.change(claim, { state: 'started' })
      }
      case 'start': {
        const { run_id, pipeline_id, version, schedule_id, due_at, fencing_token } = claim
        const input = { run_id, pipeline_id, version, params: {}, select: null, full: false }
        await runs.start(input, { schedule_id, due_at, fencing_token })
        // It was lost while the run was being made ready, when there was nothing to cancel yet.
        if (this.#claims.current(claim) === null) await runs.cancel(run_id)
        return
      }
      case 'follow':
        await Promise.race([runs.ended(claim.run_id), this.#stopped.promise])
        // Its end could not be stored: the next start of the program mends that.
        if (nextStep(claim, await runs.here(claim.run_id)).do === 'follow') await this.#pause(pauseMs(1, 0))
        return
      case 'conclude':
        return await this.#end(claim, step.outcome)
      case 'tell':
        await this.#ack(claim, step.outcome.state, step.outcome.reason)
        return await this.#claims.remove(claim)
    }
  }

  async #end(claim: Claim, outcome: Outcome): Promise<void> {
    const { schedule_id, due_at, run_id } = claim
    await this.#claims.change(claim, { outcome })
    const { state, reason } = outcome
    this.#p.log.info({ schedule_id, due_at, run_id, outcome: state, reason }, 'a scheduled run ended')
  }

  async #ack(claim: Claim, state: 'started' | Outcome['state'], reason: string | null): Promise<void> {
    const client = this.#p.client()
    if (!client || !(await this.#p.own(claim.workspace_id)))
      throw new AppError('server.unreachable', 'There is no connection.')
    // The token may have become another one while it was seen whether it can run here.
    const { schedule_id, due_at, fencing_token, run_id } = this.#claims.current(claim) ?? claim
    const agent_id = this.#p.deviceId
    const body = {
      agent_id,
      due_at,
      fencing_token,
      state,
      reason,
      run_id: state === 'skipped' ? null : run_id,
    }
    await client.call(scheduleRoutes.ack, { params: { schedule_id }, body }, this.#options)
  }

  /** It is another agent's now, or nobody's: what runs here would not be accepted. */
  async #lose(claim: Claim, code: string): Promise<void> {
    const { schedule_id, due_at, run_id } = claim
    this.#p.log.warn({ schedule_id, due_at, run_id, code }, 'a scheduled run was lost')
    try {
      await this.#claims.remove(claim)
    } finally {
      const run = await this.#p.runs.here(run_id)
      if (run?.state === 'pending' || run?.state === 'running') await this.#p.runs.cancel(run_id)
    }
  }

  /** What can be said of a run that cannot begin is said; when it is the server that refuses to hear it, nothing can. */
  async #giveUp(step: Step, claim: Claim, error: AppError): Promise<void> {
    const { schedule_id, due_at } = claim
    this.#p.log.error({ schedule_id, due_at, step: step.do, err: error }, 'a scheduled run could not go on')
    if (step.do === 'tell') return await this.#claims.remove(claim)
    // The code alone: a message can name a path of this machine.
    const reason = `It could not begin on this machine (${error.code}).`
    await this.#end(claim, { state: 'skipped', reason })
  }

  async #pause(ms: number): Promise<void> {
    await this.#p.clock.sleep(GAP_MS, this.#stop.signal)
    await this.#p.clock.sleep(ms - GAP_MS, AbortSignal.any([this.#wake.signal, this.#stop.signal]))
  }

  get #options(): { readonly signal: AbortSignal } {
    return { signal: this.#stop.signal }
  }
}

const short = (reason: string): string => (reason.length > 500 ? `${reason.slice(0, 499)}…` : reason)
