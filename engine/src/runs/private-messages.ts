import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { replaceFile } from '../warehouse/durable-files.ts'

const messages = z.record(z.string(), z.string())

/** The engine's own words by step, which can quote data: in `private/<run_id>/messages.json`, and nowhere else on disk. */
export class PrivateMessages {
  readonly #privateDir: string

  constructor(privateDir: string) {
    this.#privateDir = privateDir
  }

  async write(runId: string, byStep: ReadonlyMap<string, string>): Promise<void> {
    if (byStep.size === 0) return
    await mkdir(join(this.#privateDir, runId), { recursive: true })
    await replaceFile(this.#file(runId), JSON.stringify(Object.fromEntries(byStep)))
  }

  /** Empty when there are none. */
  async read(runId: string): Promise<ReadonlyMap<string, string>> {
    try {
      return new Map(Object.entries(messages.parse(JSON.parse(await readFile(this.#file(runId), 'utf8')))))
    } catch {
      // Without them a run shows its class and place only: never a reason not to show it.
      return new Map()
    }
  }

  #file(runId: string): string {
    return join(this.#privateDir, runId, 'messages.json')
  }
}
