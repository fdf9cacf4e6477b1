import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Command } from 'commander'
import type { OutputOf, SyncState } from '../../contract/index.ts'
import type { Context } from '../context.ts'
import { answer, EXIT, Finding, type Output } from '../output.ts'
import type { Session } from '../session.ts'

export const addSyncCommands = (program: Command, context: Context): void => {
  const { output } = context

  program
    .command('status')
    .description('the sync state: what waits, and what needs you')
    .action(async () => {
      const session = await context.session()
      const state = await session.value('sync.state', {})
      const { run_ids, held } = await session.value('run.unsent', {})
      const unsent = run_ids.length === 0 ? [] : [`${runs(run_ids.length, 'has', 'have')} something to send.`]
      const told = { ...state, unsent_runs: run_ids.length, held_runs: held }
      answer(output, told, all => [showState(all), ...unsent, ...showHeld(held)].join('\n'))
    })

  program
    .command('sync')
    .description('send and fetch everything now, also the logs and reports of runs')
    .option('--repair', 'read every document on this machine first, and fetch anew what cannot be read')
    .action(async ({ repair = false }: { repair?: boolean }) => {
      const session = await context.session()
      const { run_ids } = await session.value('run.unsent', {})
      const repaired = repair ? await session.value('sync.repair', {}) : null
      const state = repaired?.state ?? (await session.value('sync.now', {}))
      if (state.state === 'idle')
        throw new AppError('workspace.not_found', 'There is no workspace here to sync.', {
          hint: 'Make one: `pluto workspace create NAME`, or open the link of an invitation and sync again.',
        })
      const delivered = CONNECTED.has(state.state) ? await deliver(session, output, run_ids) : []
      const said = (text: string): string => [text, ...showDelivered(delivered)].join('\n')
      if (repaired) answer(output, { ...repaired, runs: delivered }, all => said(showRepair(all)))
      else answer(output, { ...state, runs: delivered }, all => said(showState(all)))
      if (repaired && repaired.left.length > 0) throw new Finding(EXIT.conflict)
      if (state.state === 'offline') throw new Finding(EXIT.network)
      if (state.state === 'signed_out') throw new Finding(EXIT.permission)
      if (state.state === 'needs_you') throw new Finding(EXIT.conflict)
    })

  const secrets = program.command('secrets').description('secrets in the keychain of this machine')
  secrets
    .command('list', { isDefault: true })
    .description('their names')
    .action(async () => {
      const session = await context.session()
      answer(
        output,
        (await session.value('secret.list', {})).names,
        names => names.join('\n') || 'There is none.',
      )
    })
  secrets
    .command('set <name>')
    .description('store one; the value is read from standard input, so that no shell history has it')
    .action(async (name: string) => {
      if (process.stdin.isTTY) output.err('Type the value, then Enter and Ctrl-D.')
      let value = ''
      for await (const chunk of process.stdin) value += String(chunk)
      value = value.replace(/\r?\n$/, '')
      if (value === '') throw new AppError('usage.invalid', 'The value is empty: pipe it into this command.')
      const session = await context.session()
      answer(output, await session.value('secret.set', { name, value }), () => `Stored ${name}.`)
    })
  secrets
    .command('remove <name>')
    .description('erase one')
    .action(async (name: string) => {
      const session = await context.session()
      answer(output, await session.value('secret.remove', { name }), () => `Erased ${name}.`)
    })
}

type Delivered = OutputOf<'run.deliver'>['runs']

/** Why runs wait, each reason once. */
const showHeld = (held: OutputOf<'run.unsent'>['held']): string[] =>
  [...Map.groupBy(held, ({ error }) => `${error.message} ${error.hint}`)].map(
    ([why, of]) => `${runs(of.length, 'waits', 'wait')}: ${why}`,
  )

/** States in which the server answered. */
const CONNECTED: ReadonlySet<SyncState['state']> = new Set(['in_sync', 'syncing', 'needs_you'])

/** Sends what runs have to send and waits for it, however long that takes, as long as it goes on. */
const deliver = async (session: Session, output: Output, run_ids: readonly string[]): Promise<Delivered> => {
  if (run_ids.length === 0) return []
  if (!output.json) output.err(`Sending logs, reports and records of ${runs(run_ids.length)}…`)
  for (;;) {
    const delivered = await session.value('run.deliver', { run_ids: [...run_ids] })
    if (delivered.runs.every(run => run.state !== 'sending')) return delivered.runs
  }
}

const showDelivered = (delivered: Delivered): string[] => {
  const of = (state: Delivered[number]['state']) => delivered.filter(run => run.state === state)
  const lines: string[] = []
  if (of('sent').length > 0) lines.push(`Sent what ${runs(of('sent').length)} had to send.`)
  for (const { run_id, error } of of('waiting'))
    lines.push(`Run ${run_id} waits: ${error ? `${error.message} ${error.hint}` : 'it goes on.'}`)
  for (const { run_id, error } of of('refused'))
    lines.push(`Not all of run ${run_id} was accepted${error ? `: ${error.message} ${error.hint}` : '.'}`)
  return lines
}

const runs = (n: number, one = '', more = ''): string =>
  [String(n), n === 1 ? 'run' : 'runs', n === 1 ? one : more].filter(Boolean).join(' ')

const WORDS: Record<SyncState['state'], string> = {
  local: 'On this machine only: connect a server with `pluto init --server URL`.',
  in_sync: 'In sync.',
  syncing: 'Syncing.',
  idle: 'Not syncing now: `pluto sync` syncs once; `pluto serve` or the app goes on syncing.',
  offline: 'Offline.',
  signed_out: 'Signed out: `pluto login`.',
  needs_you: 'Needs you.',
}

const showRepair = ({ state, documents, unreadable, left }: OutputOf<'sync.repair'>): string => {
  const lines = [showState(state), `${documents} documents were read.`]
  const mended = unreadable.filter(name => !left.includes(name))
  if (mended.length > 0) lines.push(`Fetched anew, because they could not be read: ${mended.join(', ')}.`)
  if (left.length > 0)
    lines.push(
      `Still unreadable: ${left.join(', ')}. Unsent work in them is kept as it is; the server has the rest.`,
    )
  return lines.join('\n')
}

const showState = (state: SyncState): string => {
  const lines = [WORDS[state.state]]
  if (state.waiting > 0)
    lines.push(
      state.waiting === 1
        ? '1 change waits; it is safe on this machine.'
        : `${state.waiting} changes wait; they are safe on this machine.`,
    )
  if (state.waiting_publishes > 0) lines.push(`${state.waiting_publishes} publishes wait.`)
  if (state.error) lines.push(`${state.error.message} ${state.error.hint}`)
  for (const need of state.needs) {
    if (need.kind === 'marks')
      lines.push(
        `${need.pipeline}: two people edited ${need.steps.join(', ')}: \`pluto marks ${need.pipeline}\``,
      )
    else if (need.kind === 'refused')
      lines.push(`${need.title}: an edit was refused (${need.reason}): \`pluto local-draft list\``)
    else if (need.kind === 'publish')
      lines.push(
        `${need.pipeline}: the publish waits for you: ${need.reason}`,
        `  \`pluto publish ${need.pipeline}\` publishes what is there now; with --dismiss it is put aside.`,
      )
    else lines.push(`${need.title}: differs from the server; it is being repaired.`)
  }
  return lines.join('\n')
}
