import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { AWAY, type ReadFirst, Replica } from './replica.ts'

type AnyReplica = Pick<Replica<object>, 'id' | 'waiting' | 'held' | 'failing' | 'close' | 'onAppend'>

interface Tells {
  /**
   * How many changes, of all documents, the host has not stored yet, and how many of them it could not store when it was asked. Called
   * whenever that may have changed.
   */
  waiting(count: number, failing: number): void
  /** The host refused a change of a document that is not shown any more. */
  refused(error: ErrorBody): void
}

/**
 * The window's replicas. One that is let go while the host has not stored everything lives on until it has, whatever is shown meanwhile;
 * opened again before that it is the same one, so what was typed is on the screen.
 */
export class Replicas {
  readonly #bridge: Bridge
  readonly #tells: Tells
  readonly #all = new Set<AnyReplica>()
  /** Those that nobody shows, by document, with what stops looking after them. */
  readonly #left = new Map<string, { readonly replica: AnyReplica; readonly stop: () => void }>()

  constructor(bridge: Bridge, tells: Tells) {
    this.#bridge = bridge
    this.#tells = tells
  }

  /** As `Replica.open`. */
  async open<D extends object>(
    id: string,
    readFirst?: ReadFirst<D>,
  ): Promise<{ ok: true; value: Replica<D> } | { ok: false; error: ErrorBody }> {
    const left = this.#left.get(id)
    if (left) {
      left.stop()
      this.#left.delete(id)
      return { ok: true, value: left.replica as Replica<D> }
    }
    const opened = await Replica.open<D>(this.#bridge, id, readFirst)
    if (opened.ok) {
      this.#all.add(opened.value)
      opened.value.onAppend(() => this.#count())
    }
    return opened
  }

  /** Closes a replica as soon as the host has what was typed in it. */
  leave(replica: AnyReplica): void {
    if (replica.waiting === 0) {
      this.#close(replica)
      return
    }
    const stop = replica.onAppend(state => {
      if (state.state === 'failed' && !AWAY.has(state.error.code)) this.#tells.refused(state.error)
      if (replica.waiting > 0) return
      stop()
      this.#left.delete(replica.id)
      this.#close(replica)
    })
    this.#left.set(replica.id, { replica, stop })
  }

  /** How many changes would be lost if the page went now: nobody has them but this window. */
  get held(): number {
    return [...this.#all].reduce((sum, { held }) => sum + held, 0)
  }

  /** The window is going: nothing is waited for. */
  close(): void {
    for (const { stop } of this.#left.values()) stop()
    this.#left.clear()
    for (const replica of [...this.#all]) this.#close(replica)
  }

  #close(replica: AnyReplica): void {
    replica.close()
    this.#all.delete(replica)
    this.#count()
  }

  #count(): void {
    const sum = (of: readonly AnyReplica[]): number => of.reduce((n, { waiting }) => n + waiting, 0)
    const all = [...this.#all]
    this.#tells.waiting(sum(all), sum(all.filter(({ failing }) => failing)))
  }
}
