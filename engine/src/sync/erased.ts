import { AppError } from '@pluto-duck/crdt-model/errors'
import { decodeVoid, type LogItem } from '@pluto-duck/crdt-model/protocol'
import { readLog } from './exchange.ts'
import type { SyncOptions } from './options.ts'

/**
 * The log's records that erase. Whoever takes documents whole passes them by in the log, and would keep what they took out, and offer it
 * for being written again. The whole log is read for them: only to heal, and where local drafts wait for a workspace that comes anew.
 */
export class Erased {
  readonly #o: Pick<SyncOptions, 'client' | 'workspaceId'>
  readonly #stop: AbortSignal
  readonly #items: LogItem[] = []
  #read = 0

  constructor(options: Pick<SyncOptions, 'client' | 'workspaceId'>, stop: AbortSignal) {
    this.#o = options
    this.#stop = stop
  }

  /** All of them up to now: each call reads what is new. */
  async upToNow(): Promise<readonly LogItem[]> {
    for (;;) {
      const { items, end } = await readLog(this.#o.client, this.#o.workspaceId, this.#read, this.#stop)
      this.#items.push(...items.filter(item => item.record === 'void' && decodeVoid(item.bytes).erase))
      this.#read = items.at(-1)?.seq ?? this.#read
      if (end && !end.more) return this.#items
      if (items.length === 0) throw new AppError('server.unreachable', 'The answer of the server was cut.')
    }
  }
}
