import { newId } from '@pluto-duck/crdt-model/protocol'
import { available, missing } from '@pluto-duck/test-fixtures/services'
import { afterAll, describe, expect, it } from 'vitest'
import { AppPage } from './harness/app.ts'
import {
  acceptInto,
  type Device,
  Folders,
  type Person,
  type ServerProcess,
  signUp,
  startDevice,
  startServerProcess,
  until,
} from './harness/world.ts'

const chromium = available('chromium')
if (!chromium) process.stderr.write(`skipped: ${missing('chromium')}\n`)

const UNPUBLISHED = /[1-9]\d* unpublished change/
const [SHARED, ADAS, GRACES] = ['yearly', 'records', 'skies']

const folders = new Folders()
const closing: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
  folders.remove()
})

const deviceOf = async (name: string, server: ServerProcess, person: Person): Promise<Device> => {
  const device = await startDevice({ home: folders.make(name), server: server.url, person })
  closing.push(() => device.stop())
  return device
}

const openApp = async (device: Device): Promise<AppPage> => {
  const app = await AppPage.open(device.url)
  closing.push(() => app.close())
  return app
}

/** Two people with a pipeline that is published as version 1, each before their own app. */
const twoPeople = async () => {
  const server = await startServerProcess({ dataDir: folders.make('server') })
  closing.push(() => server.stop())
  const ada = await signUp(server.url, 'Ada')
  const grace = await signUp(server.url, 'Grace')
  const one = await deviceOf('one', server, ada)
  await one.session.value('workspace.create', { workspace_id: newId(), name: 'Together' })
  const { pipeline_id } = await one.session.value('pipeline.create_sample', {})
  await one.session.value('sync.now', {})
  const first = await one.session.value('version.publish', { pipeline_id, message: 'first' })
  if (first.state !== 'published') throw new Error(JSON.stringify(first))
  await acceptInto(one, server.url, grace, 'editor')
  const two = await deviceOf('two', server, grace)
  await until('the colleague has the pipeline', async () => {
    const { pipelines } = await two.session.value('pipeline.list', {})
    return pipelines.length === 1
  })
  const left = await openApp(one)
  const right = await openApp(two)
  for (const app of [left, right]) await app.openPipeline()
  return { left, right, hash: first.version.content_hash }
}

const edit = async (app: AppPage, step: string, where: 'start' | 'end', text: string): Promise<void> => {
  await app.chooseStep(step)
  await app.type(where, text)
  await app.stored()
}

/** Waits until the editors of both show the same text with all of `parts`, and answers it. */
const sameText = async (left: AppPage, right: AppPage, parts: readonly string[]): Promise<string> => {
  let [here, there] = ['', '']
  try {
    return await until('both editors show the same text', async () => {
      ;[here, there] = [await left.editorText(), await right.editorText()]
      return here === there && parts.every(part => here.includes(part)) && here
    })
  } catch {
    throw new Error(`no common text with ${parts.join(', ')}:\n${here}\n=====\n${there}`)
  }
}

/** [UI17] The owner makes the colleague a viewer, then removes her; she only sees who is a member. */
const people = async (owner: AppPage, colleague: AppPage): Promise<void> => {
  for (const app of [owner, colleague]) {
    await app.at('workspace-switch').click()
    await app.page.getByRole('menuitem', { name: 'Members and invitations' }).click()
    await app.at('member-item').nth(1).waitFor()
  }
  expect(await colleague.at('member-remove').count()).toBe(0)
  expect(await owner.axe()).toEqual([])
  const grace = owner.page.locator('[data-testid=member-item][data-email="grace@example.com"]')
  await grace.getByTestId('member-role').selectOption('viewer')
  await owner.page.locator('[data-testid=member-item][data-role=viewer]').waitFor()
  await owner.page.getByLabel('Email').fill('alan@example.com')
  await owner.page.getByRole('button', { name: 'Make the link' }).click()
  await owner.at('invitation-item').getByRole('button').click()
  await owner.at('invitation-item').waitFor({ state: 'detached' })
  await grace.getByTestId('member-remove').click()
  await owner.at('confirm-action').click()
  await owner.at('members-dialog').waitFor()
  await grace.waitFor({ state: 'detached' })
  expect(await owner.at('member-item').count()).toBe(1)
}

describe.skipIf(!chromium)('two people before their own apps', () => {
  it('[A3][UI17] edit live, edit the same step offline, look at what met, publish it, and restore', async () => {
    const { left, right, hash } = await twoPeople()

    // Both online: each sees what the other types, and where they are.
    await left.chooseStep(GRACES)
    await right.chooseStep(GRACES)
    await Promise.all([
      left.type('start', '-- ada types here\n'),
      right.type('end', '\n-- grace types there'),
    ])
    const live = await sameText(left, right, ['-- ada types here', '-- grace types there'])
    expect(live.startsWith('-- ada types here\n')).toBe(true)
    await left.page.locator('[data-testid=presence]', { hasText: 'Grace' }).waitFor()
    await right.page.locator('[data-testid=presence]', { hasText: 'Ada' }).waitFor()
    for (const app of [left, right]) {
      await app.untilSynced('in_sync')
      expect(await app.at('marks-banner').count()).toBe(0)
    }

    // Both offline, in the same step and in one of their own each.
    for (const app of [left, right]) await app.setPaused(true)
    await edit(left, SHARED, 'start', '-- ada was here\n')
    await edit(left, ADAS, 'end', '\n-- only ada')
    await edit(right, SHARED, 'end', '\n-- grace was here')
    await edit(right, GRACES, 'end', '\n-- only grace')
    for (const app of [left, right]) {
      await app.page.locator('[data-testid=sync-state][data-state=offline]:not([data-waiting="0"])').waitFor()
      await app.chooseStep(SHARED)
    }
    expect(await left.editorText()).not.toContain('grace was here')
    expect(await right.editorText()).not.toContain('ada was here')

    // Online again: the same text, and both are told that the step was edited by both.
    for (const app of [left, right]) await app.setPaused(false)
    await sameText(left, right, ['-- ada was here', '-- grace was here'])
    for (const app of [left, right]) {
      await app.page.locator('[data-testid=marks-banner]', { hasText: SHARED }).waitFor()
      await app.untilSynced('needs_you')
    }
    for (const [step, text] of [
      [ADAS, '-- only ada'],
      [GRACES, '-- only grace'],
    ] as const) {
      await left.chooseStep(step)
      await right.chooseStep(step)
      await sameText(left, right, [text])
    }

    // Not publishable before somebody looked; the banner shows both sides, then it is version 2.
    await left.at('publish-button').click()
    await left.at('publish-mark-review').first().waitFor()
    expect(await left.at('publish-confirm').isDisabled()).toBe(true)
    await left.page.keyboard.press('Escape')
    await left.at('marks-banner').getByRole('button', { name: 'Show both' }).click()
    const banner = left.at('marks-banner')
    for (const words of ['Ada', 'Grace', '-- ada was here', '-- grace was here'])
      await banner.getByText(words).first().waitFor()
    await left.at('mark-review').click()
    await left.at('marks-banner').waitFor({ state: 'detached' })
    await left.at('publish-button').click()
    await left.at('publish-message').fill('What both of us did')
    await left.at('publish-confirm').click()
    await left.at('publish-dialog').waitFor({ state: 'detached' })
    await right.at('marks-banner').waitFor({ state: 'detached' })

    // The other's history shows it with the right difference.
    await right.tab('history')
    const second = right.page.locator('[data-testid=version-item][data-number="2"]')
    await second.getByText('What both of us did').waitFor()
    await second.getByRole('button').first().click()
    await right.page.locator('[data-testid=diff-view][data-pair="1..2"][data-state=done]').waitFor()
    const files = right.at('diff-file')
    const paths = await files.evaluateAll(all =>
      all.map(file => (file as unknown as { dataset: { path: string } }).dataset.path),
    )
    expect(paths.toSorted()).toEqual([SHARED, ADAS, GRACES].map(name => `${name}.sql`).toSorted())
    for (const [name, text] of [
      [SHARED, '-- ada was here'],
      [SHARED, '-- grace was here'],
      [ADAS, '-- only ada'],
      [GRACES, '-- only grace'],
    ])
      await right.page
        .locator(`[data-testid=diff-file][data-path="${name}.sql"]`)
        .getByText(`${text}`)
        .waitFor()

    // Restoring version 1 makes version 3, for both.
    await right.page
      .locator('[data-testid=version-item][data-number="1"]')
      .getByTestId('restore-button')
      .click()
    await right.at('confirm-action').click()
    await right.page.locator(`[data-testid=version-item][data-number="3"][data-hash="${hash}"]`).waitFor()
    await left.tab('history')
    await left.page.locator(`[data-testid=version-item][data-number="3"][data-hash="${hash}"]`).waitFor()
    for (const app of [left, right]) {
      await app.tab('build')
      await app.chooseStep(SHARED)
      await until(
        'the editor shows version 1 again',
        async () => !(await app.editorText()).includes('was here'),
      )
      expect(await app.at('marks-banner').count()).toBe(0)
    }

    // [UI5] What comes while somebody is asked is replaced only when they were told of it.
    await right.tab('history')
    await right.page
      .locator('[data-testid=version-item][data-number="2"]')
      .getByTestId('restore-button')
      .click()
    const dialog = right.at('confirm-dialog')
    expect(await dialog.innerText()).toContain('Every version stays.')
    expect(await dialog.innerText()).not.toContain('unpublished')
    await left.type('end', '\n-- not published')
    await left.stored()
    await right.page.locator('nav').getByText(UNPUBLISHED).first().waitFor()
    await left.untilSynced('in_sync')
    await right.at('confirm-action').click()
    await dialog.getByText(UNPUBLISHED).waitFor()
    expect(await left.editorText()).toContain('-- not published')
    await right.at('confirm-action').click()
    await right.page.locator('[data-testid=version-item][data-number="4"]').waitFor()
    await until(
      'the colleague’s editor shows version 2',
      async () => !(await left.editorText()).includes('-- not published'),
    )
    await right.tab('build')
    await people(left, right)
    expect(left.errors).toEqual([])
    expect(right.errors).toEqual([])
  })
})
