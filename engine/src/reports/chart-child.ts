/**
 * Renders charts in a process of its own: a spec is somebody's program (its expressions and transforms can run for ever), and
 * this process can be killed. It loads nothing: every url is refused. Started by charts.ts only.
 */
import { loader, parse, View } from 'vega'
import { expressionInterpreter } from 'vega-interpreter'
import { compile, type TopLevelSpec } from 'vega-lite'
import { z } from 'zod'
import { CHART_CONFIG } from './chart-theme.ts'

const request = z.object({ id: z.number(), spec: z.record(z.string(), z.unknown()) })

/** Vega tells its log what fails while data flows, and draws on. Here that is a failure; warnings are about style. */
class Log {
  readonly errors: string[] = []
  level = () => this
  warn = () => this
  info = () => this
  debug = () => this
  error = (...words: unknown[]) => {
    this.errors.push(words.map(word => (word instanceof Error ? word.message : String(word))).join(' '))
    return this
  }
}

async function render(spec: Record<string, unknown>): Promise<string> {
  const own = typeof spec.config === 'object' && spec.config !== null ? { config: spec.config as object } : {}
  const lite = { ...spec, ...own } as unknown as TopLevelSpec
  const log = new Log()
  const logger = log as never
  const { spec: vegaSpec } = compile(lite, { config: CHART_CONFIG as object, logger })
  // Interpreted, not compiled to JavaScript: an expression can compute on the chart's data and reach nothing else.
  const view = new View(parse(vegaSpec, undefined, { ast: true }), {
    renderer: 'none',
    loader: closedLoader(),
    logger,
    expr: expressionInterpreter,
  })
  try {
    const svg = await view.toSVG()
    if (log.errors.length > 0) throw new Error(log.errors[0])
    return svg
  } finally {
    view.finalize()
  }
}

function closedLoader() {
  const refuse = async () => {
    throw new Error('A chart may not load anything: its data comes from a sql block or a step.')
  }
  return { ...loader(), load: refuse, sanitize: refuse, http: refuse, file: refuse } as never
}

process.on('message', async message => {
  const { id, spec } = request.parse(message)
  const reply = await render(spec).then(
    svg => ({ id, svg }),
    (error: unknown) => ({ id, error: error instanceof Error ? error.message : String(error) }),
  )
  process.send?.(reply)
})
process.on('disconnect', () => process.exit(0))
