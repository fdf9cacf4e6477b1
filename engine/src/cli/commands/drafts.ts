import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import { validate } from 'uuid'
import type { DraftEntry, OutputOf } from '../../contract/index.ts'
import { commentOn, readThreads, type Thread } from '../comments.ts'
import { type Context, findPipeline } from '../context.ts'
import { answer, EXIT, Finding, type Output, table, when } from '../output.ts'
import type { Session } from '../session.ts'
import { writeFiles } from '../write-files.ts'
import { showComparison, showMark } from './versions.ts'

export const addDraftCommands = (program: Command, context: Context): void => {
  const { output } = context
  const draft = program
    .command('draft')
    .description('drafts: forks of a pipeline to edit apart, have reviewed and merge back')
    .addHelpText(
      'after',
      '\nA draft is edited like a pipeline, by its id: `pluto export DRAFT`, `pluto import FOLDER --draft DRAFT`, `pluto compile DRAFT`.\n' +
        'Edits that the server refused are in `pluto local-draft`.',
    )

  draft
    .command('new <pipeline>')
    .description('open a draft of a pipeline’s current version; works offline')
    .requiredOption('-t, --title <text>', 'what it is for')
    .option('--from-working', 'start at what is edited now instead of the current version')
    .action(async (name: string, options: { title: string; fromWorking?: boolean }) => {
      const session = await context.session()
      const { pipeline_id } = await findPipeline(session, name)
      const from = options.fromWorking ? 'working' : 'current'
      const made = await session.value('draft.create', {
        draft_id: newId(),
        pipeline_id,
        title: options.title,
        from,
      })
      answer(
        output,
        made,
        d =>
          `Opened ${d.draft_id}.\nEdit it: \`pluto export ${d.draft_id} FOLDER\`, then \`pluto import FOLDER --draft ${d.draft_id}\`.`,
      )
    })

  draft
    .command('list [pipeline]', { isDefault: true })
    .description('the drafts of a pipeline, or all')
    .action(async (name: string | undefined) => {
      const session = await context.session()
      const input = name ? { pipeline_id: (await findPipeline(session, name)).pipeline_id } : {}
      answer(output, (await session.value('draft.list', input)).drafts, all =>
        table(
          ['draft', 'pipeline', 'state', 'by', 'title'],
          all.map(d => [d.draft_id, d.pipeline, stateOf(d), d.created_by ?? '–', d.title]),
          'There is none: `pluto draft new PIPELINE --title TEXT`.',
        ),
      )
    })

  draft
    .command('show <draft>')
    .description('one draft: its state, reviews and comments')
    .action(async (given: string) => {
      const session = await context.session()
      const found = await findDraft(session, given)
      const threads = await readThreads(session, { kind: 'draft', id: found.draft_id })
      answer(output, { ...found, threads }, d => showDraft(d, threads))
    })

  draft
    .command('diff <draft>')
    .description('what it changes, compared with the pipeline where the draft stands on it')
    .action(async (given: string) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      answer(output, await session.value('draft.compare', { draft_id }), showComparison)
    })

  draft
    .command('take-in <draft>')
    .description('merge the pipeline’s current version into the draft')
    .option('--from-working', 'what is edited now instead of the current version')
    .action(async (given: string, options: { fromWorking?: boolean }) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      const from = options.fromWorking ? 'working' : 'current'
      answer(output, await session.value('draft.take_in', { draft_id, from }), ({ changed }) =>
        changed ? 'Merged into the draft: look at `pluto draft diff`.' : 'The draft has it already.',
      )
    })

  draft
    .command('request-review <draft>')
    .description('ask for a review')
    .option('-m, --message <text>', 'what changed and why', '')
    .action(async (given: string, options: { message: string }) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      const told = await session.value('draft.request_review', { draft_id, message: options.message })
      answer(output, told, d => `Asked for a review of ${d.title}.`)
    })

  const review = (name: string, verdict: 'approved' | 'changes_requested', about: string, said: string) =>
    draft
      .command(`${name} <draft>`)
      .description(about)
      .option('-m, --message <text>', 'why', '')
      .action(async (given: string, options: { message: string }) => {
        const session = await context.session()
        const { draft_id } = await findDraft(session, given)
        const told = await session.value('draft.review', { draft_id, verdict, message: options.message })
        answer(output, told, d => `${said} ${d.title}.`)
      })
  review('approve', 'approved', 'approve it as it is here now', 'Approved')
  review(
    'request-changes',
    'changes_requested',
    'ask for changes: it is not merged until you approve',
    'Asked for changes of',
  )

  draft
    .command('comment <draft> <text>')
    .description('comment on it, or on a line of a step; works offline')
    .option('--step <name>', 'the step')
    .option('--line <n>', 'its line, from 1')
    .action(async (given: string, text: string, options: { step?: string; line?: string }) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      const line = options.line === undefined ? null : Number(options.line)
      if (line !== null && !(Number.isInteger(line) && line > 0))
        throw new AppError('usage.invalid', `--line ${options.line}: write a line’s number, from 1.`)
      const made = await commentOn(session, { kind: 'draft', id: draft_id }, text, {
        documentId: draft_id,
        step: options.step ?? null,
        line,
      })
      answer(output, made, () => 'Commented.')
    })

  draft
    .command('merge <draft>')
    .description('make its changes the pipeline’s and publish them on the current version')
    .option('-m, --message <text>', 'what changed and why; default: its title', '')
    .option('--resolve', 'say that you looked at every place that the draft and the pipeline both changed')
    .action(async (given: string, options: { message: string; resolve?: boolean }) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      const outcome = await session.value('draft.merge', {
        draft_id,
        message: options.message,
        resolve: options.resolve ?? false,
      })
      showMerge(output, outcome)
    })

  draft
    .command('close <draft>')
    .description('end it without merging; it stays readable')
    .action(async (given: string) => {
      const session = await context.session()
      const { draft_id } = await findDraft(session, given)
      answer(output, await session.value('draft.close', { draft_id }), d => `Closed ${d.title}.`)
    })

  addLocalDraftCommands(program, context)
}

const addLocalDraftCommands = (program: Command, context: Context): void => {
  const { output } = context
  const local = program
    .command('local-draft')
    .description('edits that the server refused, kept privately on this machine')
  local
    .command('list', { isDefault: true })
    .description('list them')
    .action(async () => {
      const session = await context.session()
      answer(output, (await session.value('local_draft.list', {})).drafts, all =>
        table(
          ['local draft', 'document', 'why', 'changes', 'since'],
          all.map(d => [d.draft_id, d.title, d.reason, String(d.changes), when(d.created_at)]),
          'There is none.',
        ),
      )
    })
  local
    .command('diff <local-draft>')
    .description('what it would change in its document; of comments, their text')
    .action(async (draft_id: string) => {
      const session = await context.session()
      answer(output, await session.value('local_draft.compare', { draft_id }), showComparison)
    })
  local
    .command('export <local-draft> <folder>')
    .description('write one as a folder of files; comments as one text')
    .action(async (draft_id: string, folder: string) => {
      const session = await context.session()
      const { files } = await session.value('local_draft.export', { draft_id })
      await writeFiles(folder, files)
      const written = { folder, files: Object.keys(files) }
      answer(output, written, r => `Wrote ${r.files.join(', ')} to ${r.folder}.`)
    })
  local
    .command('apply <local-draft>')
    .description('apply one to its pipeline again, as your edit')
    .action(async (draft_id: string) => {
      const session = await context.session()
      const done = await session.value('local_draft.apply', { draft_id })
      answer(output, done, () => 'Applied; it goes out with the next sync.')
    })
  local
    .command('send <local-draft>')
    .description('make it a draft that others can review: see `pluto draft`')
    .requiredOption('-t, --title <text>', 'what it is for')
    .action(async (draft_id: string, options: { title: string }) => {
      const session = await context.session()
      const sent = await session.value('local_draft.send', {
        draft_id,
        new_draft_id: newId(),
        title: options.title,
      })
      answer(
        output,
        sent,
        d => `It is the draft ${d.draft_id} now: \`pluto draft request-review ${d.draft_id}\`.`,
      )
    })
  local
    .command('discard <local-draft>')
    .description('throw one away')
    .action(async (draft_id: string) => {
      const session = await context.session()
      answer(output, await session.value('local_draft.discard', { draft_id }), () => 'Thrown away.')
    })
}

/** A draft by its id or title; says which there are when it finds none or several. */
const findDraft = async (session: Session, given: string): Promise<DraftEntry> => {
  if (validate(given)) return await session.value('draft.read', { draft_id: given })
  const { drafts } = await session.value('draft.list', {})
  const open = drafts.filter(d => d.title === given)
  const [only] = open
  if (only && open.length === 1) return only
  throw new AppError(
    'draft.not_found',
    open.length > 1
      ? `${open.length} drafts are called ${JSON.stringify(given)}: name one by its id.`
      : `There is no draft ${JSON.stringify(given)}.`,
  )
}

const stateOf = (d: DraftEntry): string => {
  const standing = new Map(d.reviews.map(review => [review.reviewer.user_id, review]))
  const objected = [...standing.values()].some(review => review.verdict === 'changes_requested')
  const approved = [...standing.values()].some(review => review.verdict === 'approved' && review.current)
  if (d.state === 'merged') return `merged as v${d.version}`
  if (d.state === 'open' || d.state === 'review') {
    if (objected) return 'changes requested'
    if (approved) return 'approved'
  }
  return d.state
}

const showDraft = (d: DraftEntry, threads: readonly Thread[]): string => {
  const lines = [`${d.title}  (${stateOf(d)})`, `draft ${d.draft_id} of ${d.pipeline}`]
  if (d.created_by) lines.push(`by ${d.created_by}, ${when(d.created_at)}`)
  if (!d.fresh) lines.push('The server could not be asked: this is what is known here.')
  if (d.waiting > 0)
    lines.push(d.waiting === 1 ? '1 change waits to be sent.' : `${d.waiting} changes wait to be sent.`)
  if (d.message) lines.push('', d.message)
  for (const review of d.reviews) {
    const verdict = review.verdict === 'approved' ? 'approved' : 'requested changes'
    const old = review.current ? '' : ' (since then it has changed, or there is a later word)'
    lines.push('', `${review.reviewer.name} ${verdict}, ${when(review.at)}${old}`)
    if (review.message) lines.push(`    ${review.message}`)
  }
  for (const thread of threads) {
    lines.push('', `${thread.where}${thread.resolved ? '  (resolved)' : ''}`)
    for (const said of thread.messages) lines.push(`    ${said.author ?? 'you'}: ${said.body}`)
  }
  return lines.join('\n')
}

const showMerge = (output: Output, outcome: OutputOf<'draft.merge'>): void => {
  if (output.json) output.out(JSON.stringify(outcome))
  switch (outcome.state) {
    case 'merged':
      if (!output.json) output.out(`Merged and published as v${outcome.version.number}.`)
      return
    case 'marks':
      if (!output.json) {
        output.err('The draft and the pipeline changed the same places. Look at them (`pluto draft take-in`')
        output.err('merges them into the draft, to be edited there), then merge with --resolve:\n')
        output.err(outcome.marks.map(showMark).join('\n\n'))
      }
      throw new Finding(EXIT.conflict)
    case 'moved':
      if (!output.json) {
        const { current } = outcome
        output.err(
          current
            ? `v${current.number} was published meanwhile by ${current.published_by.name}. Look at it, then merge again.`
            : 'Another version is current. Sync, then merge again.',
        )
      }
      throw new Finding(EXIT.conflict)
    case 'refused':
      throw AppError.fromBody(outcome.error)
  }
}
