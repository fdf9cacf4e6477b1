import type { DiskWeather } from './disk.ts'
import type { Store } from './folders.ts'
import type { Weather } from './network.ts'
import { Rng } from './random.ts'

/** What persons do. */
export type Deed =
  | 'create'
  | 'type'
  | 'edit'
  | 'comment'
  | 'reply'
  | 'recomment'
  | 'meddle'
  | 'publish'
  | 'restore'
  | 'apply_draft'
  | 'fork'
  | 'settle'
  | 'rest'
  | 'restart'
  | 'crash'
  | 'die_soon'
  | 'pause'
  | 'offline'
  | 'clock'
  | 'full_disk'
/** What befalls servers and members. */
export type Event =
  | 'role'
  | 'remove'
  | 'return'
  | 'crash_server'
  | 'restart_server'
  | 'reset_database'
  | 'reset_listeners'
  | 'lose_notifications'
  | 'rest'

/** What is taken out of the log in a simulation. */
export interface PurgePlan {
  /** How often at most while people work. */
  readonly during: number
  /** Once more when they have ended: devices that are away hear of it when everything works again. */
  readonly late: boolean
  /** How often a purge names a change whose effect goes as well, and how often a change is taken out instead of a purge: 0 to 1. */
  readonly named: number
  readonly voids: number
  /** The tables are written anew after it, as the program does: half a second for all simulations on that database. */
  readonly rewrites: boolean
  /** The whole log is verified at the end. */
  readonly verifies: boolean
}

/** One simulation, as its seed makes it. */
export interface Plan {
  readonly devices: number
  readonly people: number
  readonly replicas: number
  readonly store: Store
  /** Absent: nothing is taken out of the log. */
  readonly purges?: PurgePlan
  /** Deeds of each device. */
  readonly steps: number
  readonly weather: Weather
  readonly disk: DiskWeather
  readonly deeds: Readonly<Partial<Record<Deed, number>>>
  readonly events: Readonly<Partial<Record<Event, number>>>
  /** Deaths and restarts of servers at most: starting one costs as much as the rest of a seed. */
  readonly serverDeaths: number
}

const DEEDS: Record<Deed, number> = {
  create: 2,
  type: 10,
  edit: 5,
  comment: 4,
  reply: 3,
  recomment: 2,
  meddle: 1,
  publish: 4,
  restore: 1,
  apply_draft: 2,
  fork: 3,
  settle: 6,
  rest: 4,
  restart: 1,
  crash: 1,
  die_soon: 2,
  pause: 2,
  offline: 3,
  clock: 1,
  full_disk: 1,
}
const EVENTS: Record<Event, number> = {
  role: 4,
  remove: 2,
  return: 4,
  crash_server: 3,
  restart_server: 1,
  reset_database: 1,
  reset_listeners: 1,
  lose_notifications: 1,
  rest: 3,
}

/** The share of simulations whose devices have a real `state.duckdb`. */
const DUCKDB = 0.125

/** How often a simulation has so many devices: most faults need two, and a seed costs by the device. */
const DEVICES = { 2: 24, 3: 6, 4: 2, 5: 1, 6: 1, 7: 0.5, 8: 0.5 }

/** A draft that nobody does anything with shows little. */
const withSettling = (deeds: Plan['deeds']): Plan['deeds'] =>
  deeds.fork ? { ...deeds, settle: DEEDS.settle } : deeds

/** The share of simulations that purge. */
const PURGING = 0.25

export const planOf = (seed: number): Plan => {
  const rng = new Rng(seed)
  const plan = makePlan(rng.fork('plan'))
  // A stream of its own: the others are what they were before there were purges.
  const own = rng.fork('purges')
  return own.chance(PURGING) ? { ...plan, purges: purgePlan(own) } : plan
}

const purgePlan = (rng: Rng): PurgePlan => {
  const late = rng.chance(0.6)
  return {
    late,
    during: rng.between(late ? 0 : 1, 2),
    named: rng.pick([0, 0.5, 1]),
    voids: 0,
    rewrites: rng.chance(0.04),
    verifies: rng.chance(0.1),
  }
}

/** Each simulation has only some kinds of deeds and faults: what hides in the noise of all together shows there. */
function makePlan(rng: Rng): Plan {
  const some = <K extends string>(
    all: Record<K, number>,
    always: readonly K[],
  ): Partial<Record<K, number>> => {
    const share = rng.pick([0.4, 0.7, 1])
    return Object.fromEntries(
      (Object.entries(all) as [K, number][]).filter(([key]) => always.includes(key) || rng.chance(share)),
    ) as Partial<Record<K, number>>
  }
  const rough = rng.pick([0, 0.5, 1, 2])
  const harm = (p: number): number => (rng.chance(0.6) ? p * rough : 0)
  const devices = Number(rng.weighted<string>(DEVICES))
  return {
    devices,
    people: rng.between(1, Math.min(4, devices)),
    replicas: rng.pick([1, 1, 2, 2, 3]),
    steps: rng.between(3, devices > 4 ? 6 : devices > 2 ? 9 : 12),
    weather: {
      lost: harm(0.05),
      unanswered: harm(0.08),
      late: harm(0.06),
      repeated: harm(0.06),
      cut: harm(0.05),
      delayed: harm(0.15),
    },
    disk: { statement: 0.05, commit: rng.chance(0.5) ? 0.05 : 0, afterCommit: rng.chance(0.5) ? 0.05 : 0 },
    deeds: withSettling(some(DEEDS, ['type', 'create', 'rest'])),
    events: some(EVENTS, ['rest']),
    serverDeaths: rng.pick([0, 0, 0, 1, 1, 2]),
    store: rng.chance(DUCKDB) ? 'duckdb' : 'light',
  }
}
