import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { z } from 'zod'
import type { Compiled } from './compile.ts'

const CHILD = fileURLToPath(new URL('./lineage-child.ts', import.meta.url))
const reply = z.object({
  id: z.number(),
  origins: z.array(z.object({ table: z.string(), column: z.string() })).nullable(),
})
type Origins = z.infer<typeof reply>['origins']

/** `from` is a step, or `source.<name>`. */
export interface LineageEdge {
  readonly from: string
  readonly from_column: string
  readonly to: string
  readonly to_column: string
}

export interface Lineage {
  /** From the column asked for up to the sources. A column that is computed from nothing, as `count(*)`, has no edge. */
  readonly edges: readonly LineageEdge[]
  /** Steps whose SQL could not be traced; what is behind them is not in `edges`. */
  readonly untraced: readonly string[]
}

/** Traces columns on demand, in one killable process that is started when first needed. Call `close` when done. */
export class ColumnLineage {
  readonly #timeoutMs: number
  readonly #startMs: number
  /** The child has answered once: its parser is loaded. */
  #warm = false
  #child: ChildProcess | null = null
  #next = 1
  /** One at a time: the child is killed with whatever it is doing. */
  #queue: Promise<unknown> = Promise.resolve()

  /** Milliseconds for one step, and what a start may take besides: loading the parser is slow on a busy machine. Default 10 s and 60 s. */
  constructor(timeoutMs = 10_000, startMs = 60_000) {
    this.#timeoutMs = timeoutMs
    this.#startMs = startMs
  }

  /** Where a column of a step comes from. Empty when the step has no such column, or could not be bound. */
  async trace(
    definition: PipelineDefinition,
    compiled: Compiled,
    stepId: string,
    column: string,
  ): Promise<Lineage> {
    const steps = new Map(compiled.steps.map(step => [step.name, step]))
    const sqlOf = new Map(definition.steps.map(step => [step.name, step.sql]))
    const edges: LineageEdge[] = []
    const untraced = new Set<string>()
    const seen = new Set<string>()
    const start = compiled.steps.find(step => step.step_id === stepId)
    const open = start ? [{ name: start.name, column }] : []
    for (let asked = open.shift(); asked; asked = open.shift()) {
      const step = steps.get(asked.name)
      const own = nameIn(step?.columns, asked.column)
      if (!step || own === undefined || seen.has(`${step.name}.${own}`)) continue
      seen.add(`${step.name}.${own}`)
      const tables = [
        ...step.depends_on.map(name => ({
          schema: null,
          name,
          columns: [...(steps.get(name)?.columns ?? [])],
        })),
        ...step.sources.map(name => ({
          schema: 'source',
          name,
          columns: [...(compiled.sources.find(source => source.name === name)?.columns ?? [])],
        })),
      ]
      const origins = await this.#origins(sqlOf.get(step.name) ?? '', own, tables)
      if (origins === null) untraced.add(step.name)
      for (const origin of origins ?? []) {
        const table = tables.find(
          ({ schema, name }) => (schema ? `${schema}.${name}` : name) === origin.table,
        )
        const found = nameIn(table?.columns, origin.column)
        if (!table || found === undefined) continue
        const edge = { from: origin.table, from_column: found, to: step.name, to_column: own }
        if (edges.some(known => JSON.stringify(known) === JSON.stringify(edge))) continue
        edges.push(edge)
        if (table.schema === null) open.push({ name: table.name, column: found })
      }
    }
    return { edges, untraced: [...untraced] }
  }

  async close(): Promise<void> {
    const child = this.#child
    this.#child = null
    this.#warm = false
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }

  #origins(sql: string, column: string, tables: readonly object[]): Promise<Origins> {
    const answer = this.#queue.then(() => this.#ask({ id: this.#next++, sql, column, tables }))
    this.#queue = answer.catch(() => undefined)
    return answer
  }

  async #ask(ask: { readonly id: number; readonly [field: string]: unknown }): Promise<Origins> {
    this.#child ??= startChild()
    const child = this.#child
    const { promise, resolve } = Promise.withResolvers<Origins | 'failed'>()
    const onMessage = (message: unknown) => {
      const read = reply.safeParse(message)
      if (read.success && read.data.id === ask.id) resolve(read.data.origins)
    }
    const onExit = () => resolve('failed')
    const timer = setTimeout(onExit, this.#timeoutMs + (this.#warm ? 0 : this.#startMs))
    child.on('message', onMessage).once('exit', onExit)
    child.send(ask, error => {
      if (error) resolve('failed')
    })
    const origins = await promise
    clearTimeout(timer)
    child.off('message', onMessage).off('exit', onExit)
    if (origins !== 'failed') {
      this.#warm = true
      return origins
    }
    // Whatever hangs or died is not asked again.
    await this.close()
    return null
  }
}

const nameIn = (columns: ReadonlyArray<{ readonly name: string }> | null | undefined, name: string) =>
  columns?.find(column => column.name.toLowerCase() === name.toLowerCase())?.name

function startChild(): ChildProcess {
  const inElectron = 'electron' in process.versions
  return fork(CHILD, [], {
    env: inElectron ? { ELECTRON_RUN_AS_NODE: '1' } : {},
    // It may read its own code, and do nothing else (Electron's node does not take the permission flags).
    execArgv: inElectron ? [] : ['--permission', '--allow-fs-read=*'],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
}
