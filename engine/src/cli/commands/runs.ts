import { copyFile, writeFile } from 'node:fs/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import { validate } from 'uuid'
import type { RunView } from '../../contract/index.ts'
import { type Context, findPipeline, parseParams, parseVersion } from '../context.ts'
import { answer, duration, EXIT, Finding, type Output, table, when } from '../output.ts'
import type { Session } from '../session.ts'
import { showProblems } from './pipelines.ts'

const ENDED = new Set(['success', 'failed', 'skipped', 'cancelled'])
const UNSENT = new Set(['waiting', 'uploading'])

interface RunOptions {
  version?: string
  select?: string
  param: string[]
  full?: boolean
  yes?: boolean
}

export const addRunCommands = (program: Command, context: Context): void => {
  const { output } = context

  program
    .command('run <pipeline>')
    .description('run a pipeline on this machine; Ctrl-C stops it')
    .option('--version <n>', 'a published version instead of the working state')
    .option('--select <selection>', 'as in dbt: step, +step, step+, tag:x')
    .option('--param <name=value...>', 'a parameter', [])
    .option('--full', 'rebuild everything')
    .option('--yes', 'allow what the plan wants to read and publish')
    .action(async (name: string, options: RunOptions) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const settings = {
        pipeline_id: pipeline.pipeline_id,
        version: options.version ? parseVersion(options.version) : null,
        params: parseParams(options.param),
        select: options.select ?? null,
        full: options.full ?? false,
      }
      await allow(session, output, settings, options.yes ?? false)
      const run = await follow(session, output, { ...settings, run_id: newId() })
      answer(
        output,
        run,
        r => `${r.state}${r.cause ? ` (${r.cause} in ${r.failed_step ?? 'the run'})` : ''}  run ${r.run_id}`,
      )
      if (!output.json && UNSENT.has(run.upload.state)) {
        const { state } = await session.value('sync.state', {})
        if (state === 'idle') output.err('Its log and report wait to be sent: `pluto sync`.')
      }
      if (run.state !== 'success') throw new Finding(exitOf(run))
    })

  program
    .command('runs [pipeline]')
    .description('runs, newest first')
    .action(async (name: string | undefined) => {
      const session = await context.session()
      const filter = name ? { pipeline_id: (await findPipeline(session, name)).pipeline_id } : {}
      answer(output, (await session.value('run.list', filter)).runs, runs =>
        table(
          ['run', 'pipeline', 'version', 'state', 'started', 'by'],
          runs.map(r => [
            r.run_id,
            r.pipeline,
            r.version ? `v${r.version}` : 'draft',
            r.state,
            when(r.started_at),
            r.run_by,
          ]),
          'No run yet: `pluto run PIPELINE`.',
        ),
      )
    })

  program
    .command('logs <run>')
    .description('the log of a run, as docs/formats.md describes it')
    .action(async (runId: string) => {
      const session = await context.session()
      for (let after = 0; ; ) {
        const page = await session.value('run.log', { run_id: runId, after_line: after })
        for (const line of page.lines) {
          output.out(
            output.json
              ? JSON.stringify(line)
              : `${line.ts}  ${line.level.padEnd(5)}  ${line.step ?? ''}  ${line.message}`,
          )
        }
        if (page.lines.length === 0) return
        after = page.next_line
      }
    })

  program
    .command('report <pipelineOrRun>')
    .description('write the report of a run, or of the latest run of a pipeline or draft, as one HTML file')
    .option('-o, --output <file>', 'where to; default report.html')
    .action(async (what: string, options: { output?: string }) => {
      const session = await context.session()
      const isRun = validate(what) && (await session.call('run.read', { run_id: what })).ok
      const report = await session.value(
        'report.read',
        isRun ? { run_id: what } : { pipeline_id: (await findPipeline(session, what)).pipeline_id },
      )
      if (report.state === 'none') {
        throw new AppError('artifact.not_found', 'There is no report yet.', {
          hint: 'Run the pipeline first: `pluto run`.',
        })
      }
      const file = options.output ?? 'report.html'
      await writeFile(file, report.html)
      answer(
        output,
        { file, run_id: report.run_id, version: report.version },
        r => `Wrote ${r.file} (run ${r.run_id}).`,
      )
    })

  const artifacts = program.command('artifacts').description('files that a run sent')
  artifacts
    .command('list <run>', { isDefault: true })
    .description('list them')
    .action(async (runId: string) => {
      const session = await context.session()
      answer(output, (await session.value('run.artifacts', { run_id: runId })).artifacts, all =>
        table(
          ['artifact', 'kind', 'name', 'bytes'],
          all.map(a => [a.artifact_id, a.kind, a.name, String(a.bytes)]),
          'None.',
        ),
      )
    })
  artifacts
    .command('get <artifact> <file>')
    .description('download one and verify it')
    .action(async (artifactId: string, file: string) => {
      const session = await context.session()
      const got = await session.value('run.download', { artifact_id: artifactId })
      await copyFile(got.path, file)
      answer(output, { file, bytes: got.bytes }, r => `Wrote ${r.file} (${r.bytes} bytes, verified).`)
    })

  program
    .command('ledger')
    .description('every byte that ever left this machine, by run')
    .action(async () => {
      const session = await context.session()
      answer(output, (await session.value('ledger.list', {})).entries, all =>
        table(
          ['at', 'what', 'name', 'bytes', 'to', 'run'],
          all.map(e => [e.at, e.what, e.name, String(e.bytes), e.destination, e.run_id ?? '–']),
          'Nothing has left this machine.',
        ),
      )
    })
}

interface PlanInput {
  pipeline_id: string
  version: number | null
  params: Record<string, string | number | boolean | null>
  select: string | null
  full: boolean
}

/** Shows what the run wants to touch; with `--yes` allows it, else stops with the list. */
const allow = async (session: Session, output: Output, input: PlanInput, yes: boolean): Promise<void> => {
  const plan = await session.value('pipeline.plan', input)
  if (plan.problems.some(p => p.severity === 'error')) {
    showProblems(output, plan.problems, 'pipeline')
    throw new Finding(EXIT.definition)
  }
  if (plan.grants_needed.length === 0) return
  if (!yes) {
    if (!output.json)
      for (const g of plan.grants_needed) output.err(`asks to ${g.kind} ${g.target}: ${g.why}`)
    throw new AppError(
      'grant.required',
      'This pipeline wants to touch what was not allowed on this machine yet.',
      {
        hint: 'Look at the list, then run again with --yes to allow it.',
        details: { grants_needed: plan.grants_needed },
      },
    )
  }
  await session.value('grant.allow', {
    pipeline_id: input.pipeline_id,
    targets: plan.grants_needed.map(({ kind, target }) => ({ kind, target })),
  })
}

/** Starts the run and writes a line whenever a step changes its state, until it ends. */
const follow = async (
  session: Session,
  output: Output,
  input: PlanInput & { run_id: string },
): Promise<RunView> => {
  const seen = new Map<string, string>()
  const show = (run: RunView) => {
    if (output.json) return
    for (const step of run.steps) {
      const percent = step.percent === null ? '' : ` ${Math.floor(step.percent / 10) * 10}%`
      const state = step.state === 'running' ? `running${percent}` : step.state
      if (seen.get(step.step_id) === state || state === 'waiting') continue
      seen.set(step.step_id, state)
      const facts = [
        step.rows === null ? '' : `${step.rows.toLocaleString()} rows`,
        duration(step.duration_ms),
        step.message ?? '',
      ]
      output.err(`  ${step.name.padEnd(28)} ${state.padEnd(13)} ${facts.filter(Boolean).join('  ')}`)
    }
  }
  let wake = () => {}
  const off = session.on('run.changed', run => {
    if (run.run_id !== input.run_id) return
    show(run)
    if (ENDED.has(run.state)) wake()
  })
  const stop = () => {
    output.err('Stopping…')
    void session.call('run.cancel', { run_id: input.run_id }).then(reply => {
      if (!reply.ok) output.err(`It could not be stopped: ${reply.error.message} ${reply.error.hint}`)
    })
  }
  process.once('SIGINT', stop)
  try {
    let run = await session.value('run.start', input)
    while (!ENDED.has(run.state)) {
      await new Promise<void>(resolve => {
        wake = resolve
        setTimeout(resolve, 1000)
      })
      run = await session.value('run.read', { run_id: input.run_id })
    }
    show(run)
    return run
  } finally {
    off()
    process.off('SIGINT', stop)
  }
}

const exitOf = (run: RunView): number => {
  if (run.state === 'cancelled') return EXIT.cancelled
  if (run.cause === 'data_test') return EXIT.data_test
  if (run.cause === 'permission') return EXIT.permission
  if (run.cause === 'network') return EXIT.network
  return EXIT.run
}
