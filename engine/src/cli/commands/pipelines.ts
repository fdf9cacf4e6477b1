import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import type { ContractProblem } from '../../contract/index.ts'
import { type Context, findPipeline, parseParams, parseSide } from '../context.ts'
import { noPipelines } from '../next-step.ts'
import { answer, EXIT, Finding, type Output, table } from '../output.ts'
import { writeFiles } from '../write-files.ts'

/** Files of a pipeline's folder; anything else in it is left alone. */
const OURS = /\.(ya?ml|sql|md)$/
const MAX_FILE = 4 * 1024 * 1024

export const addPipelineCommands = (program: Command, context: Context): void => {
  const { output } = context

  program
    .command('list')
    .description('the pipelines of the workspace')
    .action(async () => {
      const session = await context.session()
      const { pipelines } = await session.value('pipeline.list', {})
      const none = pipelines.length === 0 ? await noPipelines(session) : ''
      answer(output, pipelines, all =>
        table(
          ['name', 'version', 'unpublished', 'steps', 'last run'],
          all.map(p => [
            p.name,
            p.current_version === null ? '–' : `v${p.current_version}`,
            p.unreadable ? 'cannot be read' : String(p.unpublished ?? '…'),
            String(p.steps ?? '…'),
            p.last_run?.state ?? '–',
          ]),
          none,
        ),
      )
    })

  program
    .command('create <name>')
    .description('make an empty pipeline')
    .action(async (name: string) => {
      const session = await context.session()
      answer(
        output,
        await session.value('pipeline.create', { pipeline_id: newId(), name }),
        p => `Made ${p.name}.`,
      )
    })

  program
    .command('import [folder]')
    .description(
      'import a folder of files (pipeline.yaml, *.sql, report.md); a pipeline of the same name is brought up to it',
    )
    .option('--sample', 'import the sample pipeline with its data instead')
    .option('--draft <id>', 'into this draft instead')
    .action(async (folder: string | undefined, options: { sample?: boolean; draft?: string }) => {
      const session = await context.session()
      if (options.sample) {
        answer(
          output,
          await session.value('pipeline.create_sample', {}),
          p => `Imported the sample ${p.name}.`,
        )
        return
      }
      if (!folder) throw new AppError('usage.invalid', 'Name a folder, or use --sample.')
      const outcome = await session.value('pipeline.import', {
        files: await readFolder(folder),
        ...(options.draft === undefined ? {} : { pipeline_id: options.draft }),
      })
      if (outcome.state === 'problems') {
        showProblems(output, outcome.problems, folder)
        throw new Finding(EXIT.definition)
      }
      answer(
        output,
        outcome,
        o =>
          `${o.created ? 'Imported' : 'Updated'} ${o.pipeline.name} (${o.pipeline.steps} ${o.pipeline.steps === 1 ? 'step' : 'steps'}).`,
      )
    })

  program
    .command('export <pipeline> [folder]')
    .description('write a pipeline as a folder of files, for git or for another machine')
    .option('--version <n>', 'a published version instead of the working state')
    .action(async (name: string, folder: string | undefined, options: { version?: string }) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const side = options.version ? parseSide(options.version) : ({ kind: 'working' } as const)
      const { files } = await session.value('pipeline.export', { pipeline_id: pipeline.pipeline_id, side })
      const target = resolve(folder ?? pipeline.name)
      await writeFiles(target, files)
      answer(
        output,
        { folder: target, files: Object.keys(files) },
        r => `Wrote ${r.files.length} files to ${r.folder}.`,
      )
    })

  program
    .command('compile <pipeline>')
    .description('check every step: problems, dependencies, columns')
    .action(async (name: string) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const compiled = await session.value('pipeline.compile', { pipeline_id: pipeline.pipeline_id })
      if (output.json) output.out(JSON.stringify(compiled))
      else {
        showProblems(output, compiled.problems, pipeline.name)
        output.out(
          table(
            ['step', 'depends on', 'columns'],
            compiled.steps.map(s => [
              s.name,
              [...s.sources.map(x => `source.${x}`), ...s.depends_on].join(', '),
              s.columns ? s.columns.map(c => `${c.name} ${c.type}`).join(', ') : '?',
            ]),
            'No steps.',
          ),
        )
      }
      if (compiled.problems.some(p => p.severity === 'error')) throw new Finding(EXIT.definition)
    })

  program
    .command('plan <pipeline>')
    .description('what a run would do: what runs, what is reused and why, what is read and what leaves')
    .option('--select <selection>', 'as in dbt: step, +step, step+, tag:x')
    .option('--param <name=value...>', 'a parameter', [])
    .option('--full', 'rebuild everything')
    .action(async (name: string, options: { select?: string; param: string[]; full?: boolean }) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const plan = await session.value('pipeline.plan', {
        pipeline_id: pipeline.pipeline_id,
        params: parseParams(options.param),
        select: options.select ?? null,
        full: options.full ?? false,
      })
      if (output.json) output.out(JSON.stringify(plan))
      else {
        showProblems(output, plan.problems, pipeline.name)
        output.out(
          table(
            ['step', 'action', 'why'],
            plan.steps.map(s => [s.name, s.action, s.reason]),
            'No steps.',
          ),
        )
        for (const read of plan.reads)
          output.out(`reads   source.${read.source}: ${read.path} (${read.files} files)`)
        for (const leaves of plan.publishes) output.out(`leaves  ${leaves.what} ${leaves.columns.join(', ')}`)
        for (const grant of plan.grants_needed)
          output.out(`asks    to ${grant.kind} ${grant.target}: ${grant.why}`)
      }
      if (plan.problems.some(p => p.severity === 'error')) throw new Finding(EXIT.definition)
    })

  program
    .command('preview <pipeline> <step>')
    .description('rows of a step as it is written now')
    .option('--limit <n>', 'how many', '20')
    .action(async (name: string, stepName: string, options: { limit: string }) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const compiled = await session.value('pipeline.compile', { pipeline_id: pipeline.pipeline_id })
      const step = compiled.steps.find(s => s.name === stepName)
      if (!step)
        throw new AppError('step.not_found', `${pipeline.name} has no step ${JSON.stringify(stepName)}.`)
      const outcome = await session.value('pipeline.preview', {
        pipeline_id: pipeline.pipeline_id,
        step_id: step.step_id,
        limit: Number(options.limit),
      })
      if (outcome.state === 'problems') {
        showProblems(output, outcome.problems, pipeline.name)
        throw new Finding(EXIT.definition)
      }
      answer(output, outcome.page, page =>
        table(
          page.columns.map(c => c.name),
          page.rows.map(row => row.map(cell => (cell === null ? 'NULL' : String(cell)))),
          'No rows.',
        ),
      )
    })
}

/** The files of a folder, one level deep, as path -> text. */
const readFolder = async (folder: string): Promise<Record<string, string>> => {
  const root = resolve(folder)
  const info = await stat(root).catch((cause: unknown) => {
    throw new AppError('file.unreadable', `${folder} can't be read.`, { cause })
  })
  if (!info.isDirectory()) {
    throw new AppError('file.unreadable', `${folder} is not a folder.`, {
      hint: `Give the folder that holds ${basename(folder)}.`,
    })
  }
  const files: Record<string, string> = {}
  for (const entry of await readdir(root, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name)
    const name = relative(root, path).split(sep).join('/')
    if (!entry.isFile() || !OURS.test(entry.name) || name.split('/').some(part => part.startsWith('.')))
      continue
    if ((await stat(path)).size > MAX_FILE)
      throw new AppError('file.unreadable', `${name} is larger than 4 MiB.`)
    files[name] = await readFile(path, 'utf8')
  }
  return files
}

export const showProblems = (output: Output, problems: readonly ContractProblem[], where: string): void => {
  if (output.json) {
    if (problems.length > 0) output.err(JSON.stringify({ problems }))
    return
  }
  for (const p of problems) {
    const place = [p.file ?? where, p.line, p.column].filter(part => part !== null).join(':')
    output.err(`${place}: ${p.severity}: ${p.message}\n    ${p.hint}`)
  }
}
