import { newId } from '@pluto-duck/crdt-model/protocol'
import { connectHttp, type Session } from '@pluto-duck/engine'

const WORKSPACE = 'Sample workspace'
const RUN_LIMIT_MS = 120_000

/**
 * Makes the sample: a workspace with a pipeline on real data, published and run once. Each part is made only when it is
 * missing, so a start that was cut short is completed by the next one, and what somebody did meanwhile is left alone.
 *
 * @param url the host's address with its token, as `pluto serve` prints it.
 */
export const makeSample = async (url: string): Promise<void> => {
  const address = new URL(url)
  const session = connectHttp(address.origin, address.searchParams.get('token') ?? '')
  try {
    const { workspaces } = await session.value('workspace.list', {})
    if (workspaces.length === 0)
      await session.value('workspace.create', { workspace_id: newId(), name: WORKSPACE })
    else if (!(await isUnfinished(session))) return
    process.stderr.write('Making the sample workspace…\n')
    await complete(session)
  } finally {
    await session.close()
  }
}

/** The only pipeline has never run, or there is none in the sample workspace. */
const isUnfinished = async (session: Session): Promise<boolean> => {
  const { workspaces } = await session.value('workspace.list', {})
  const { pipelines } = await session.value('pipeline.list', {})
  const onlySample = workspaces.length === 1 && workspaces[0]?.name === WORKSPACE && pipelines.length <= 1
  return onlySample && !pipelines[0]?.last_run
}

const complete = async (session: Session): Promise<void> => {
  const { pipelines } = await session.value('pipeline.list', {})
  const pipeline = pipelines[0] ?? (await session.value('pipeline.create_sample', {}))
  const { pipeline_id } = pipeline
  await session.value('sync.now', {})
  if (pipeline.current_version === null) {
    const outcome = await session.value('version.publish', {
      pipeline_id,
      message: 'The sample, as it comes',
    })
    if (outcome.state !== 'published') throw new Error(`the sample was not published: ${outcome.state}`)
  }
  const plan = await session.value('pipeline.plan', { pipeline_id, version: 1 })
  // The sample's files were copied by this program a moment ago; nobody else's file is allowed here.
  await session.value('grant.allow', {
    pipeline_id,
    targets: plan.grants_needed.map(({ kind, target }) => ({ kind, target })),
  })
  const run_id = newId()
  await session.value('run.start', { pipeline_id, run_id, version: 1 })
  await untilDone(session, run_id)
}

const untilDone = async (session: Session, run_id: string): Promise<void> => {
  const until = Date.now() + RUN_LIMIT_MS
  for (;;) {
    const run = await session.value('run.read', { run_id })
    if (run.state === 'success') return
    if (run.state !== 'pending' && run.state !== 'running') {
      throw new Error(
        `the sample run ended as ${run.state} (${run.cause ?? 'no cause'} in ${run.failed_step ?? 'no step'})`,
      )
    }
    if (Date.now() > until) throw new Error('the sample run did not end in time')
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
