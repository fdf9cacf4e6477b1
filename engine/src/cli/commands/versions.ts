import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Command, Option } from 'commander'
import type { Comparison, ContractMark, OutputOf } from '../../contract/index.ts'
import { type Context, findPipeline, parseSide, parseVersion } from '../context.ts'
import { answer, EXIT, Finding, type Output, table, when } from '../output.ts'
import { showProblems } from './pipelines.ts'

export const addVersionCommands = (program: Command, context: Context): void => {
  const { output } = context

  program
    .command('history <pipeline>')
    .description('the versions of a pipeline, newest first')
    .action(async (name: string) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      answer(
        output,
        (await session.value('version.list', { pipeline_id: pipeline.pipeline_id })).versions,
        all =>
          table(
            ['version', 'published', 'by', 'message', 'content'],
            all.map(v => [
              `v${v.number}`,
              when(v.published_at),
              v.published_by.name,
              v.restores ? `restores v${v.restores}  ${v.message}` : v.message,
              v.content_hash.slice(0, 12),
            ]),
            'Nothing is published yet: `pluto publish PIPELINE`.',
          ),
      )
    })

  program
    .command('diff <pipeline> [before] [after]')
    .description(
      'compare two versions (7, v7) or `working`; default: the current version with the working state',
    )
    .action(async (name: string, before: string | undefined, after: string | undefined) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      if (!before && pipeline.current_version === null) {
        throw new AppError('version.not_found', `${pipeline.name} has no version yet.`, {
          hint: 'Publish it first: `pluto publish`.',
        })
      }
      const comparison = await session.value('version.compare', {
        pipeline_id: pipeline.pipeline_id,
        before: before ? parseSide(before) : { kind: 'version', number: pipeline.current_version as number },
        after: after ? parseSide(after) : { kind: 'working' },
      })
      answer(output, comparison, showComparison)
    })

  program
    .command('blame <pipeline> [step]')
    .description(
      'who wrote each line, in which version and why, and what was said about it; of a step, `report`, or everything',
    )
    .option('--version <n>', 'of a published version instead of the working state')
    .action(async (name: string, step: string | undefined, options: { version?: string }) => {
      const session = await context.session()
      const { pipeline_id } = await findPipeline(session, name)
      const blamed = await session.value('version.blame', {
        pipeline_id,
        target: step ?? null,
        version: options.version === undefined ? null : parseVersion(options.version),
      })
      answer(output, blamed, ({ texts }) => texts.map(text => showBlame(text)).join('\n\n'))
    })

  program
    .command('publish <pipeline>')
    .description('publish the working state as the next version; queued when offline')
    .option('-m, --message <text>', 'what changed and why', '')
    .option('--resolve', 'say that you looked at every place that two people changed at once')
    .addOption(
      new Option(
        '--dismiss',
        'put aside the publish that waits for you (`pluto status` names it): it is not sent, your work stays as it is',
      ).conflicts(['message', 'resolve']),
    )
    .action(async (name: string, options: { message: string; resolve?: boolean; dismiss?: boolean }) => {
      const session = await context.session()
      const { pipeline_id, name: pipeline } = await findPipeline(session, name)
      if (options.dismiss) {
        answer(output, await session.value('version.dismiss', { pipeline_id }), ({ dismissed }) =>
          dismissed
            ? `Put aside: the publish of ${pipeline} is not sent, and your work stays as it is.`
            : `No publish of ${pipeline} waits for you.`,
        )
        return
      }
      if (options.resolve) {
        const { marks } = await session.value('pipeline.marks', { pipeline_id })
        for (const m of marks)
          await session.value('pipeline.review_mark', { pipeline_id, mark_id: m.id, reviewed: true })
      }
      showOutcome(output, await session.value('version.publish', { pipeline_id, message: options.message }))
    })

  program
    .command('restore <pipeline> <version>')
    .description('bring an old version back, as a new version with its content')
    .option('-m, --message <text>', 'why', '')
    .option('--yes', 'replace unpublished changes, yours and everybody’s: no version has them')
    .action(async (name: string, number: string, options: { message: string; yes?: boolean }) => {
      const session = await context.session()
      const pipeline = await findPipeline(session, name)
      const outcome = await session.value('version.restore', {
        pipeline_id: pipeline.pipeline_id,
        number: parseVersion(number),
        message: options.message,
        replace_unpublished: options.yes ? Number.MAX_SAFE_INTEGER : 0,
      })
      if (outcome.state === 'unpublished') {
        showUnpublished(output, pipeline.name, outcome)
        throw new Finding(EXIT.conflict)
      }
      showOutcome(output, outcome)
    })

  program
    .command('marks <pipeline>')
    .description('places that two people changed at once, with both sides')
    .action(async (name: string) => {
      const session = await context.session()
      const { pipeline_id } = await findPipeline(session, name)
      answer(output, (await session.value('pipeline.marks', { pipeline_id })).marks, marks =>
        marks.length === 0 ? 'Nothing is marked.' : marks.map(showMark).join('\n\n'),
      )
    })
}

const showBlame = ({ target, lines }: OutputOf<'version.blame'>['texts'][number]): string =>
  [
    target,
    table(
      ['version', 'by', 'message', 'line', ''],
      lines.flatMap((line, i) => [
        [
          line.version === null ? '–' : `v${line.version}`,
          line.author?.name ?? (line.change === null ? '' : 'you'),
          (line.message ?? (line.change === null ? '' : 'not published')).split('\n')[0]?.slice(0, 40) ?? '',
          String(i + 1),
          line.text,
        ],
        ...line.comments.flatMap(({ resolved, messages }) =>
          messages.map(message => [
            '',
            message.author?.name ?? 'you',
            resolved ? 'comment, resolved' : 'comment',
            '',
            `  ^ ${message.body.replaceAll('\n', ' ')}`,
          ]),
        ),
      ]),
      'It is empty.',
    ),
  ].join('\n')

export const showMark = (mark: ContractMark): string =>
  [
    `${mark.label}${mark.reviewed ? ' (looked at)' : ''}`,
    ...mark.sides.map(
      side => `  ${side.authors.join(', ') || 'unknown'}:\n${indent(side.value ?? '(deleted)')}`,
    ),
  ].join('\n')

const indent = (text: string): string => text.replace(/^/gm, '    ')

const SIGNS = { same: ' ', added: '+', removed: '-' } as const

export const showComparison = (comparison: Comparison): string => {
  const parts: string[] = []
  for (const file of comparison.files)
    parts.push(`${file.path}  (${file.status})`, ...showLines(file.lines), '')
  for (const setting of comparison.settings)
    parts.push(`${setting.label}: ${setting.before ?? '–'} -> ${setting.after ?? '–'}`)
  for (const step of comparison.steps.filter(s => s.change !== 'same'))
    parts.push(`step ${step.name}: ${step.change}`)
  return parts.length === 0 ? 'No difference.' : parts.join('\n').trimEnd()
}

/** Equal lines that are shown around what differs. */
const AROUND = 3

/** The lines that differ, with those around them; what is left out is counted. */
const showLines = (lines: Comparison['files'][number]['lines']): string[] => {
  const shown = new Set<number>()
  lines.forEach(({ op }, i) => {
    if (op !== 'same') for (let near = i - AROUND; near <= i + AROUND; near++) shown.add(near)
  })
  const out: string[] = []
  for (let i = 0; i < lines.length; i++) {
    const from = i
    while (i < lines.length && !shown.has(i)) i++
    // One line takes no more room than saying that it was left out.
    if (i - from === 1) i = from
    if (i > from) out.push(`  … ${i - from} equal lines`)
    const line = lines[i]
    if (line) out.push(`${SIGNS[line.op]} ${line.text}`)
  }
  return out
}

const showUnpublished = (
  output: Output,
  name: string,
  outcome: Extract<OutputOf<'version.restore'>, { state: 'unpublished' }>,
): void => {
  if (output.json) {
    output.out(JSON.stringify(outcome))
    return
  }
  const what = outcome.changes === 1 ? '1 unpublished change' : `${outcome.changes} unpublished changes`
  output.err(
    `${what} would be replaced, and nothing would bring them back: \`pluto diff ${name}\` shows them.`,
  )
  output.err(`Publish them or \`pluto export ${name} FOLDER\` first, or say --yes. Nothing was changed.`)
}

const showOutcome = (output: Output, outcome: OutputOf<'version.publish'>): void => {
  if (output.json) output.out(JSON.stringify(outcome))
  switch (outcome.state) {
    case 'published':
      if (!output.json) {
        output.out(
          outcome.created
            ? `Published v${outcome.version.number}.`
            : `Nothing changed: v${outcome.version.number} is current.`,
        )
      }
      return
    case 'queued':
      if (!output.json) output.out('Offline: the publish is queued and goes out with the next sync.')
      return
    case 'marks':
      if (!output.json) {
        output.err('Two people changed the same places. Look at them, then publish with --resolve:\n')
        output.err(outcome.marks.map(showMark).join('\n\n'))
      }
      throw new Finding(EXIT.conflict)
    case 'moved':
      if (!output.json) {
        output.err(
          `v${outcome.current.number} was published meanwhile by ${outcome.current.published_by.name}.`,
        )
        output.err('Your work was merged with it: look at `pluto diff`, then publish again.')
      }
      throw new Finding(EXIT.conflict)
    case 'invalid':
      showProblems(output, outcome.problems, 'pipeline')
      throw new Finding(EXIT.definition)
    case 'refused':
      throw AppError.fromBody(outcome.error)
  }
}
