import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import type { OutputOf } from '../../contract/index.ts'
import { type Context, findPipeline } from '../context.ts'
import { answer, table, when } from '../output.ts'

export const addScheduleCommands = (program: Command, context: Context): void => {
  const { output } = context
  const schedule = program
    .command('schedule')
    .description(
      'run the current version of a pipeline by the clock, on a machine where `pluto serve` or the app is',
    )

  schedule
    .command('list', { isDefault: true })
    .description(
      'the schedules of the workspace, what became of each the last time, and since when one is missed',
    )
    .action(async () => {
      const session = await context.session()
      const { schedules } = await session.value('schedule.list', {})
      const { pipelines } = await session.value('pipeline.list', {})
      const names = new Map(pipelines.map(pipeline => [pipeline.pipeline_id, pipeline.name]))
      answer(output, schedules, all =>
        table(
          ['schedule', 'pipeline', 'cron', 'time zone', 'state', 'next', 'last'],
          all.map(one => [
            one.schedule_id,
            names.get(one.pipeline_id) ?? one.pipeline_id,
            one.cron,
            one.timezone,
            one.enabled ? 'on' : 'off',
            when(one.next_due_at),
            lastOf(one),
          ]),
          'None yet: `pluto schedule create PIPELINE CRON`.',
        ),
      )
      if (!output.json && schedules.some(one => one.overdue?.reason.includes('agent')))
        output.err('Missed: `pluto serve` or the app has to run on a machine that may take it.')
    })

  schedule
    .command('create <pipeline> <cron>')
    .description('make one: five fields, such as "0 7 * * 1-5"')
    .option('--timezone <zone>', 'default: the one of this machine', systemZone())
    .action(async (name: string, cron: string, options: { timezone: string }) => {
      const session = await context.session()
      const { pipeline_id } = await findPipeline(session, name)
      const made = { schedule_id: newId(), pipeline_id, cron, timezone: options.timezone }
      await session.value('schedule.create', made)
      answer(
        output,
        made,
        one => `Scheduled ${name}: ${one.cron} (${one.timezone})  schedule ${one.schedule_id}`,
      )
    })

  for (const [word, enabled] of [
    ['enable', true],
    ['disable', false],
  ] as const) {
    schedule
      .command(`${word} <schedule>`)
      .description(enabled ? 'switch one on; nothing that is past is run' : 'switch one off')
      .action(async (scheduleId: string) => {
        const session = await context.session()
        await session.value('schedule.set_enabled', { schedule_id: scheduleId, enabled })
        answer(output, { schedule_id: scheduleId, enabled }, () => `Switched ${enabled ? 'on' : 'off'}.`)
      })
  }
}

const DID = { started: 'runs', completed: 'ran', skipped: 'skipped' } as const

/** Since when it is missed, or what became of the newest occurrence, and why. */
const lastOf = ({ last, overdue }: OutputOf<'schedule.list'>['schedules'][number]): string => {
  if (overdue !== null) return `missed since ${when(overdue.since)}: ${overdue.reason}`
  return last === null
    ? '–'
    : `${when(last.due_at)} ${DID[last.state]}${last.reason === null ? '' : `: ${last.reason}`}`
}

const systemZone = (): string => Intl.DateTimeFormat().resolvedOptions().timeZone
