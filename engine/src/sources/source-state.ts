import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, promises as fs } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import type { ResolvedSource } from './resolve-sources.ts'

/** What a source held when it was looked at. Equal states give equal rows. */
export interface SourceState {
  readonly name: string
  /** sha256 over the contents of the files, in hex. Paths and time stamps are not part of it. */
  readonly hash: string
  readonly files: number
  readonly bytes: number
}

/** A write within this time of another can leave the same stamps. */
const SETTLED_MS = 2_000

const cacheFile = z.record(z.string(), z.strictObject({ key: z.string(), hash: z.string() }))

/**
 * Content hashes by path. A hash is taken from the cache only while size, both time stamps and inode are what they were when
 * the file was read; a file that changed within the last two seconds is never cached, since a later write could leave
 * the same stamps. Losing the cache costs time only.
 */
export class SourceHashes {
  readonly #file: string | null
  readonly #now: () => number
  #entries: Map<string, { key: string; hash: string }> | null = null

  /** `file` null keeps the cache in memory. `now` is in milliseconds since 1970. */
  constructor(file: string | null, now: () => number = Date.now) {
    this.#file = file
    this.#now = now
  }

  /** Reads whatever is not cached. Rejects with the system's error when a file has gone. */
  async stateOf(source: ResolvedSource): Promise<SourceState> {
    const entries = await this.#load()
    const hash = createHash('sha256')
    let bytes = 0
    for (const file of source.files) {
      const content = await this.#hashOf(file.path, entries)
      bytes += file.size
      hash.update(`${content}\n`)
    }
    return { name: source.name, hash: hash.digest('hex'), files: source.files.length, bytes }
  }

  /** Writes the cache. Call it after the states of a plan are taken. */
  async save(): Promise<void> {
    if (this.#file === null || this.#entries === null) return
    await fs.mkdir(path.dirname(this.#file), { recursive: true })
    // Two plans may end at once: each writes a file of its own, and the last one stays.
    const temporary = `${this.#file}.${process.pid}.${randomUUID()}.tmp`
    await fs.writeFile(temporary, JSON.stringify(Object.fromEntries(this.#entries)), { mode: 0o600 })
    await fs.rename(temporary, this.#file)
  }

  async #hashOf(file: string, entries: Map<string, { key: string; hash: string }>): Promise<string> {
    const before = await stamp(file)
    const known = entries.get(file)
    if (known?.key === before.key) return known.hash
    const hash = createHash('sha256')
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
    const digest = hash.digest('hex')
    const after = await stamp(file)
    const settled = after.key === before.key && this.#now() - after.changedMs > SETTLED_MS
    if (settled) entries.set(file, { key: before.key, hash: digest })
    else entries.delete(file)
    return digest
  }

  async #load(): Promise<Map<string, { key: string; hash: string }>> {
    if (this.#entries) return this.#entries
    let entries = new Map<string, { key: string; hash: string }>()
    if (this.#file !== null) {
      const text = await fs.readFile(this.#file, 'utf8').catch(() => '{}')
      const parsed = cacheFile.safeParse(parseJson(text))
      if (parsed.success) entries = new Map(Object.entries(parsed.data))
    }
    this.#entries = entries
    return entries
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // A cache that cannot be read is as good as none.
    return null
  }
}

/**
 * What tells, without reading it, that a source is as it was: its reader, its options, its files and their stamps. Null while one of its
 * files is so new that a later write could leave the same stamps, or has gone.
 */
export async function sourceStamp(source: ResolvedSource, now: () => number): Promise<string | null> {
  const stamps = await Promise.all(source.files.map(file => stamp(file.path).catch(() => null)))
  const young = now() - SETTLED_MS
  if (stamps.some(one => one === null || one.changedMs > young)) return null
  const files = source.files.map((file, index) => [file.path, stamps[index]!.key])
  const { kind, options } = source.definition
  return createHash('sha256')
    .update(JSON.stringify([kind, options, files]))
    .digest('hex')
}

async function stamp(file: string): Promise<{ key: string; changedMs: number }> {
  const stat = await fs.stat(file, { bigint: true })
  return {
    key: `${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}:${stat.ino}`,
    changedMs: Math.max(Number(stat.mtimeMs), Number(stat.ctimeMs)),
  }
}
