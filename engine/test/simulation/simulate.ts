import { identityRoutes, newId, type Role } from '@pluto-duck/crdt-model/protocol'
import { WireClient } from '../../src/sync/index.ts'
import { check } from './check.ts'
import type { Cluster } from './cluster.ts'
import { carryOut } from './deeds.ts'
import { type Person, SimDevice } from './device.ts'
import { Letters } from './letters.ts'
import { CALM, Network, pause } from './network.ts'
import { Operator } from './operator.ts'
import { type Plan, planOf } from './plan.ts'
import { Rng } from './random.ts'
import type { Replica } from './replica.ts'
import { Trace } from './trace.ts'

export interface Result {
  readonly seed: number
  /** Null when every rule held. */
  readonly failure: string | null
  readonly trace: string
  readonly changes: number
  /** Things that were taken out of its log. */
  readonly purges: number
}

/** How long the devices have to agree once everything works again. */
const HEAL_MS = 30_000

/** A seed that takes longer hangs: it is a finding, with its trace. */
const SEED_MS = 60_000

async function inTime<T>(work: Promise<T>): Promise<T> {
  const over = new AbortController()
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Hanging('it hangs')), SEED_MS)
    over.signal.addEventListener('abort', () => clearTimeout(timer))
  })
  try {
    return await Promise.race([work, late])
  } finally {
    over.abort()
  }
}

class Hanging extends Error {}

/**
 * One simulation: people work on devices while everything fails; then nothing does, and the rules of SPEC.md are looked at.
 * @param plan default: the one that the seed makes. A finding keeps its plan, which stays what it was when plans are made otherwise.
 */
export async function simulate(cluster: Cluster, seed: number, plan?: Plan): Promise<Result> {
  const world = new World(cluster, seed, plan)
  let failure: string | null = null
  let changes = 0
  try {
    const work = async (): Promise<number> => {
      await world.prepare()
      await world.run()
      await world.heal()
      return await check(world)
    }
    changes = await inTime(work())
  } catch (error) {
    failure = error instanceof Error ? (error.stack ?? error.message) : String(error)
    if (error instanceof Hanging) failure = `${failure}\n${(await world.stuck()).join('\n')}`
  }
  const { problems } = world.trace
  if (problems.length > 0) failure = [...problems, ...(failure ? [failure] : [])].join('\n')
  try {
    await world.end(failure === null)
  } catch (error) {
    failure = `${failure ?? ''}\nat the end: ${error instanceof Error ? error.stack : String(error)}`
  }
  return { seed, failure, trace: world.trace.text(), changes, purges: world.operator?.done ?? 0 }
}

export class World {
  readonly cluster: Cluster
  readonly trace = new Trace()
  readonly plan: Plan
  readonly network: Network
  readonly workspaceId = newId()
  devices: SimDevice[] = []
  /** Who is no member any more. */
  readonly removed = new Set<string>()
  readonly rng: Rng
  /** Null where nothing is taken out of the log. */
  readonly operator: Operator | null
  readonly letters: Letters | null
  #people: Person[] = []
  #owner: WireClient | null = null
  #over = false
  #deaths = 0

  constructor(cluster: Cluster, seed: number, plan?: Plan) {
    this.cluster = cluster
    this.rng = new Rng(seed)
    this.plan = plan ?? planOf(seed)
    this.operator = this.plan.purges ? new Operator(this, this.plan.purges) : null
    this.letters = this.operator ? new Letters() : null
    this.network = new Network(this.trace, () => cluster.replicas)
    this.trace.say('plan', JSON.stringify(this.plan))
  }

  get owner(): Person {
    return this.#people[0]!
  }

  /** Where everything stands that does not end. */
  async stuck(): Promise<string[]> {
    const { rows } = await this.cluster.sql.query<{
      pid: number
      state: string
      wait: string
      query: string
      blockers: string
    }>(
      `select pid, state, wait_event_type || ' ' || wait_event as wait, query, pg_blocking_pids(pid)::text as blockers
       from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'`,
    )
    return [
      ...this.devices.map(
        device =>
          `${device.name}: ${device.doing}, ${device.up ? JSON.stringify(device.running.sync.status()) : 'down'}`,
      ),
      ...this.network.unanswered(),
      ...rows.map(row => JSON.stringify(row)),
    ]
  }

  isAllowed(device: SimDevice): boolean {
    return !this.removed.has(device.person.userId)
  }

  device(name: string, person: Person): SimDevice {
    const { workspaceId, network, trace, plan, letters } = this
    return new SimDevice({
      name,
      person,
      workspaceId,
      network,
      trace,
      rng: this.rng.fork(name),
      store: plan.store,
      letters,
    })
  }

  async prepare(): Promise<void> {
    const { plan, cluster, rng } = this
    await cluster.have(plan.replicas)
    this.#people = await cluster.people(plan.people)
    this.#owner = this.#clientOf(this.owner)
    await this.#owner.call(identityRoutes.createWorkspace, {
      body: { workspace_id: this.workspaceId, name: 'W' },
    })
    for (const person of this.#people.slice(1))
      await this.#invite(person, rng.pick(['editor', 'editor', 'viewer']))
    this.devices = Array.from({ length: plan.devices }, (_, i) =>
      this.device(`device${i}`, this.#people[i % plan.people]!),
    )
    await Promise.all(this.devices.map(device => device.open()))
    await carryOut(this.devices[0]!, 'create', plan, rng)
  }

  async run(): Promise<void> {
    this.network.weather = this.plan.weather
    const work = Promise.all(this.devices.map((device, i) => this.#work(device, this.rng.fork(`deeds ${i}`))))
    const fate = this.#befall(this.rng.fork('events'))
    const operated = this.operator?.work(() => this.#over, this.rng.fork('operator'))
    await work
    this.#over = true
    await Promise.all([fate, operated])
  }

  /** Everything works again; every device goes on until all agree. */
  async heal(): Promise<void> {
    this.trace.say('world', 'heals')
    this.network.weather = CALM
    for (const replica of this.cluster.replicas) {
      replica.link.disarm()
      replica.link.losesNotification = () => false
    }
    await this.cluster.have(this.plan.replicas)
    await this.network.quiet()
    // What ends by itself has ended.
    await pause(50)
    if (this.operator) await this.#operateLate(this.operator, this.rng.fork('operator, late'))
    for (const device of this.devices) await this.#recover(device)
    const until = performance.now() + HEAL_MS
    for (;;) {
      const there = await this.#serverSeq()
      const states = await Promise.all(this.devices.filter(device => this.isAllowed(device)).map(settle))
      for (const { device, asked, state, seq } of states)
        if (asked && state === 'in_sync' && seq < there)
          this.trace.problem(
            `${device} was asked to sync when the log had ${there}, and is in sync at ${seq}`,
          )
      const waiting = states.filter(state => !state.done)
      if (waiting.length === 0 && states.every(({ seq }) => seq === states[0]?.seq && seq >= there)) return
      if (performance.now() > until) {
        const lines = [...states.map(state => JSON.stringify(state)), ...(await this.stuck())]
        throw new Error(`the devices do not agree:\n${lines.join('\n')}`)
      }
      await pause(10)
    }
  }

  async #serverSeq(): Promise<number> {
    const { rows } = await this.cluster.sql.query<{ seq: string }>(
      'select seq from workspace_counters where workspace_id = $1',
      [this.workspaceId],
    )
    return Number(rows[0]?.seq ?? 0)
  }

  /** Some devices have sent what they have by then, and others do not hear of it before they come back. */
  async #operateLate(operator: Operator, rng: Rng): Promise<void> {
    for (const device of this.devices) if (rng.chance(0.5)) await this.#recover(device)
    await pause(rng.between(0, 80))
    await operator.late(rng)
  }

  async #recover(device: SimDevice): Promise<void> {
    device.offline = false
    device.disk = null
    device.dieAt = null
    if (await this.#isBroken(device)) device.crash('for its disk is broken')
    if (!device.up) await device.open()
    else if (device.left) await device.leave()
    device.pause(false)
  }

  /** @param healthy every rule held: what is left can serve the next one. */
  async end(healthy: boolean): Promise<void> {
    await Promise.all(this.devices.map(device => device.remove(healthy && this.isAllowed(device))))
  }

  async #work(device: SimDevice, rng: Rng): Promise<void> {
    for (let step = 0; step < this.plan.steps; step++) {
      if (device.left) {
        await pause(rng.between(5, 20))
        continue
      }
      const deed = rng.weighted(this.plan.deeds)
      device.doing = deed
      await carryOut(device, deed, this.plan, rng)
      device.doing = 'nothing'
      if (await this.#isBroken(device)) device.crash('for its disk is broken')
      await pause(rng.between(0, 4))
    }
  }

  /** After a failed commit the state takes no more: the program ends, and somebody starts it again. */
  async #isBroken(device: SimDevice): Promise<boolean> {
    const { disk } = device
    if (!device.up || !device.harmed) return false
    device.disk = null
    try {
      await device.running.state.write(async () => undefined)
      device.disk = disk
      device.harmed = disk !== null
      return false
    } catch {
      return true
    }
  }

  async #befall(rng: Rng): Promise<void> {
    const ends: (() => void)[] = []
    while (!this.#over) {
      await pause(rng.between(5, 40))
      if (this.#over) break
      const event = rng.weighted(this.plan.events)
      if (this.cluster.replicas.length === 0) continue
      const heard = rng.chance(0.5)
      const replica = rng.pick(this.cluster.replicas)
      const person = rng.pick(this.#people)
      const role = rng.pick<Role>(['editor', 'viewer', 'owner'])
      const count = rng.between(1, 40)
      const moment = rng.pick(['before', 'after'] as const)
      switch (event) {
        case 'role':
          if (person !== this.owner && !this.removed.has(person.userId)) await this.#setRole(person, role)
          break
        case 'remove':
          if (person !== this.owner && !this.removed.has(person.userId)) await this.#remove(person, heard)
          break
        case 'return':
          if (this.removed.has(person.userId)) await this.#return(person, role)
          break
        case 'restart_server':
          this.#restartServer(replica)
          break
        case 'crash_server':
          this.#crashServer(replica, count, moment)
          break
        case 'reset_database':
          this.trace.say(replica.name, 'loses its connections to Postgres')
          replica.link.reset()
          break
        case 'reset_listeners':
          this.trace.say(replica.name, 'loses its connection for notifications')
          replica.link.resetListeners()
          break
        case 'lose_notifications': {
          this.trace.say(replica.name, 'loses notifications')
          const dice = rng.fork(`notifications ${ends.length}`)
          replica.link.losesNotification = () => dice.chance(0.5)
          break
        }
        case 'rest':
      }
    }
  }

  #crashServer(replica: Replica, count: number, moment: 'before' | 'after'): void {
    if (replica.dead || this.#deaths >= this.plan.serverDeaths) return
    this.#deaths++
    this.trace.say(replica.name, `dies ${moment} its message ${count}`)
    replica.crashAt(count, moment, () => {
      this.trace.say(replica.name, 'is dead')
      setTimeout(() => {
        this.cluster.have(this.plan.replicas).catch((error: unknown) => this.trace.problem(String(error)))
      }, 20)
    })
  }

  #restartServer(replica: Replica): void {
    if (replica.dead || this.#deaths >= this.plan.serverDeaths) return
    this.#deaths++
    this.trace.say(replica.name, 'ends in good order')
    const problem = (error: unknown) => this.trace.problem(`a server did not restart: ${String(error)}`)
    replica.leave().catch(problem)
    setTimeout(() => this.cluster.have(this.plan.replicas).catch(problem), 20)
  }

  async #setRole(person: Person, role: Role): Promise<void> {
    this.trace.say('owner', `makes ${person.name} ${role}`)
    await this.#asOwner(client =>
      client.call(identityRoutes.setRole, {
        params: { workspace_id: this.workspaceId, user_id: person.userId },
        body: { role },
      }),
    )
  }

  /** @param heard their devices hear of it, and give the documents back. */
  async #remove(person: Person, heard: boolean): Promise<void> {
    this.trace.say('owner', `removes ${person.name}`)
    this.removed.add(person.userId)
    await this.#asOwner(client =>
      client.call(identityRoutes.removeMember, {
        params: { workspace_id: this.workspaceId, user_id: person.userId },
      }),
    )
    if (heard) await Promise.all(this.#devicesOf(person).map(device => device.leave()))
  }

  /** Invited again: devices that had given the documents back fetch them anew, the others go on with what they have. */
  async #return(person: Person, role: Role): Promise<void> {
    this.trace.say('owner', `invites ${person.name} again`)
    await this.#asOwner(() => this.#invite(person, role === 'owner' ? 'editor' : role))
    this.removed.delete(person.userId)
    for (const device of this.#devicesOf(person)) {
      if (!device.left) continue
      await device.close()
      await device.open(true)
      device.left = false
    }
  }

  #devicesOf(person: Person): SimDevice[] {
    return this.devices.filter(device => device.person === person)
  }

  async #invite(person: Person, role: Role): Promise<void> {
    const { value } = await this.#clientOf(this.owner).call(identityRoutes.invite, {
      params: { workspace_id: this.workspaceId },
      body: { invitation_id: newId(), email: person.email, role },
    })
    await this.#clientOf(person).call(identityRoutes.acceptInvitation, { body: { token: value.token ?? '' } })
  }

  /** Until it is done: an owner asks again when a server died. */
  async #asOwner(work: (client: WireClient) => Promise<unknown>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        await work(this.#owner!)
        return
      } catch (error) {
        const code = (error as { code?: string }).code ?? ''
        if (code === 'member.not_found') return
        if (attempt > 100) throw error
        await pause(20)
      }
    }
  }

  #clientOf(person: Person): WireClient {
    return new WireClient({
      server: 'http://simulated.invalid',
      deviceId: newId(),
      token: async () => person.token,
      fetch: async (input, init) => {
        const replica = this.cluster.replicas.find(one => !one.dead)
        if (!replica) throw new TypeError('fetch failed')
        const { pathname, search } = new URL(String(input))
        return await fetch(replica.server.url + pathname + search, init)
      },
    })
  }
}

interface Settled {
  readonly device: string
  readonly done: boolean
  /** It answered in time. */
  readonly asked: boolean
  readonly state: string
  readonly seq: number
}

async function settle(device: SimDevice): Promise<Settled> {
  const { sync, publisher } = device.running
  const asked = await Promise.race([sync.now().then(() => true), pause(3_000).then(() => false)])
  await Promise.race([publisher.settled(device.workspaceId), pause(3_000)])
  const status = sync.status()
  const publishes = publisher.waiting(device.workspaceId)
  const done = status.state === 'in_sync' && status.waiting === 0 && publishes === 0
  return { device: device.name, done, asked, ...status, ...(done ? {} : { publishes }) }
}
