/**
 * Renders charts in a process of its own: a spec is somebody's program (its expressions and transforms can run for ever), and
 * this process can be killed. It loads nothing: every url is refused. Started by charts.ts only.
 */
import { loader, parse, View } from 'vega'
import { compile, type TopLevelSpec } from 'vega-lite'
import { z } from 'zod'
import { CHART_CONFIG } from './chart-theme.ts'

const request = z.object({ id: z.number(), spec: z.record(z.string(), z.unknown()) })

const silent = () => quiet
/** Warnings of the compiler are about style; what fails throws. */
const quiet = { level: silent, error: silent, warn: silent, info: silent, debug: silent } as never

async function render(spec: Record<string, unknown>): Promise<string> {
  const own = typeof spec.config === 'object' && spec.config !== null ? { config: spec.config as object } : {}
  const lite = { ...spec, ...own } as unknown as TopLevelSpec
  const { spec: vegaSpec } = compile(lite, { config: CHART_CONFIG as object, logger: quiet })
  const view = new View(parse(vegaSpec), { renderer: 'none', loader: closedLoader(), logger: quiet })
  try {
    return await view.toSVG()
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
