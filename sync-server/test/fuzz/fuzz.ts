import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK } from './corpus.ts'
import { corpusFor, type Input, inputOf } from './inputs.ts'
import { compareWith, type Replayed, replay } from './replay.ts'
import { FuzzWorld } from './world.ts'

/** Requests that are under way at the same time. */
const AT_ONCE = 6
/** Memory may grow by so much after the first third: a heap breathes, and a leak of a kilobyte an input shows. */
const GROWTH_MB = 150

export interface FuzzOptions {
  readonly seed: number
  /** The first input. Default 0. */
  readonly from?: number
  readonly count: number
  /** An empty database of a real Postgres. */
  readonly databaseUrl: string
  /** Called after each block of inputs. */
  readonly onProgress?: (done: number, memoryMb: number | null) => void
}

export interface Failure {
  readonly index: number
  readonly why: string
  readonly input: Input
}

export interface FuzzReport {
  readonly inputs: number
  /** Answers by status. */
  readonly statuses: Readonly<Record<number, number>>
  /** Changes that inputs made the server store; the corpus is not among them. */
  readonly stored: number
  readonly documents: number
  readonly failures: readonly Failure[]
  /** What was wrong with the whole: a document that does not load, memory that grew, a server that ended. */
  readonly problems: readonly string[]
  /** At the end of each block. */
  readonly memoryMb: readonly number[]
}

/**
 * Sends inputs to a real server and judges each answer (rule FUZZ1); after each block replays what came into the log, and in the
 * end compares every document as a new device gets it with the replay (FUZZ2) and looks at the server's memory (FUZZ3).
 */
export const fuzz = async (options: FuzzOptions): Promise<FuzzReport> => {
  const { seed, from = 0, count, databaseUrl, onProgress } = options
  const folder = mkdtempSync(join(tmpdir(), 'pluto-fuzz-'))
  const world = await FuzzWorld.start(databaseUrl, folder)
  const failures: Failure[] = []
  const problems: string[] = []
  const statuses: Record<number, number> = {}
  const memoryMb: number[] = []
  const documents = new Map<string, Replayed>()
  let stored = 0
  let seq = 0

  const one = async (index: number): Promise<void> => {
    const input = inputOf(seed, index)
    const outcome = await world.send(input)
    if (!outcome.ok) failures.push({ index, why: outcome.why, input })
    else {
      stored += outcome.stored
      statuses[outcome.status] = (statuses[outcome.status] ?? 0) + 1
    }
  }
  /** The changes that came since the last look, replayed. */
  const lookAtLog = async (last: number): Promise<void> => {
    const { items, seq: now } = await world.log(seq)
    seq = now
    try {
      for (const [id, of] of replay(items)) documents.set(id, of)
    } catch (error) {
      problems.push(`after the input ${last}: ${String(error)}`)
    }
  }

  const end = from + count
  try {
    for (let start = from; start < end && world.alive; ) {
      const stop = Math.min(end, (Math.floor(start / BLOCK) + 1) * BLOCK)
      await world.prepare(corpusFor(seed, start))
      let next = start
      const lane = async (): Promise<void> => {
        while (next < stop && world.alive) await one(next++)
      }
      await Promise.all(Array.from({ length: AT_ONCE }, lane))
      if (!world.alive) break
      await lookAtLog(stop - 1)
      const memory = world.memory()
      if (memory !== null) memoryMb.push(memory)
      onProgress?.(stop - from, memory)
      start = stop
    }
    if (world.alive) {
      let seen = 0
      for await (const item of world.snapshot()) {
        seen += 1
        compareWith(item, documents.get(item.document_id))
      }
      if (seen !== documents.size)
        problems.push(`the snapshot has ${seen} documents, the log ${documents.size}`)
      const found = await world.verify()
      if (found !== null) problems.push(found)
    } else problems.push('the server ended')
  } catch (error) {
    problems.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  } finally {
    await world.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  if (world.errors !== '') problems.push(`the server's log:\n${world.errors.slice(0, 4000)}`)
  problems.push(...growth(memoryMb))
  return { inputs: count, statuses, stored, documents: documents.size, failures, problems, memoryMb }
}

/** The median of the last third of the samples above that of the second. */
const growth = (samples: readonly number[]): string[] => {
  if (samples.length < 6) return []
  const third = Math.floor(samples.length / 3)
  const median = (of: readonly number[]): number =>
    of.toSorted((a, b) => a - b)[Math.floor(of.length / 2)] as number
  const [before, after] = [median(samples.slice(third, 2 * third)), median(samples.slice(-third))]
  const grown = Math.round(after - before)
  return grown > GROWTH_MB
    ? [`the server's memory grew by ${grown} MB: ${samples.map(Math.round).join(' ')}`]
    : []
}
