import { available, missing } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AppPage } from './harness/app.ts'
import { type Started, startProgram } from './harness/processes.ts'
import { Folders } from './harness/world.ts'

const chromium = available('chromium')
if (!chromium) process.stderr.write(`skipped: ${missing('chromium')}\n`)

/** A cold start builds the app and makes the sample. */
const COLD_MS = 170_000
const TYPED = '-- typed in the browser 한글 🦆'
const BY_KEYS = '-- typed without a mouse'
const STEP = 'yearly'
const CHARTS = 2

const folders = new Folders()
const dataDir = folders.make('start')
let started: Started<string> | undefined
const pages: AppPage[] = []

/** `npm start -- --no-open`. */
const start = (): Promise<Started<string>> =>
  startProgram(
    'scripts/start.ts',
    ['--no-open', '--data-dir', dataDir],
    {},
    text => /^ready (\S+)$/m.exec(text)?.[1] ?? null,
    COLD_MS,
  )

const open = async (options?: Parameters<typeof AppPage.open>[1]): Promise<AppPage> => {
  const app = await AppPage.open(started?.ready ?? '', options)
  pages.push(app)
  return app
}

/** Waits for the end of the run that began after `before`, allowing what it asks for; answers its id. */
const untilRun = async (app: AppPage, before: string | null, allow: () => Promise<void>): Promise<string> => {
  const state = app.page.locator(`[data-testid=run-state]:not([data-run="${before}"])`)
  const asked = app.at('grant-dialog')
  await state.or(asked).first().waitFor()
  if (await asked.isVisible()) await allow()
  await app.page
    .locator(`[data-testid=run-state][data-state=success]:not([data-run="${before}"])`)
    .waitFor({ timeout: 60_000 })
  return (await state.getAttribute('data-run')) ?? ''
}

/** The report of a run is shown with its charts drawn. */
const expectReport = async (app: AppPage, runId: string): Promise<void> => {
  await app.page.locator(`[data-testid=report-frame][data-run="${runId}"]`).waitFor()
  const frame = app.page.frameLocator('[data-testid=report-frame]')
  await frame
    .locator('svg')
    .nth(CHARTS - 1)
    .waitFor()
  expect(await frame.locator('svg').count()).toBe(CHARTS)
  for (const chart of await frame.locator('svg').all()) {
    const box = await chart.boundingBox()
    expect(box?.width).toBeGreaterThan(300)
    expect(box?.height).toBeGreaterThan(100)
    expect(await chart.locator('path').count()).toBeGreaterThan(3)
  }
  expect(await frame.locator('table').count()).toBeGreaterThan(0)
}

describe.skipIf(!chromium)('the app that `npm start` gives', () => {
  beforeAll(async () => {
    started = await start()
  }, COLD_MS)

  afterAll(async () => {
    for (const page of pages) await page.close()
    await started?.stop()
    folders.remove()
  })

  it('[A1] shows the sample; a step is changed and run, and its report has its charts, without an error', async () => {
    const app = await open()
    await app.openPipeline()
    await app.page.locator('[data-testid=step-node][data-state=success]').first().waitFor()
    await app.chooseStep(STEP)
    await app.type('end', `\n${TYPED}`)
    expect(await app.editorText()).toContain(TYPED)
    await app.stored()
    await app.page.locator('[data-unpublished]:not([data-unpublished="0"])').waitFor()

    const before = await app.at('run-state').getAttribute('data-run')
    await app.recordStates('run-state')
    await app.at('run-button').click()
    const runId = await untilRun(app, before, () => app.at('grant-allow').click())
    expect(await app.recordedStates()).toContain('running')

    await app.tab('runs')
    await app.page.locator(`[data-testid=run-item][data-run="${runId}"][data-state=success]`).waitFor()
    expect(await app.at('run-step').count()).toBeGreaterThan(0)
    await app.tab('report')
    await expectReport(app, runId)
    expect(app.errors).toEqual([])
  })

  it('[A1] finds everything at a second start', async () => {
    await started?.stop()
    const from = performance.now()
    started = await start()
    process.stdout.write(`warm start: ${((performance.now() - from) / 1000).toFixed(1)} s\n`)
    expect(started.output()).not.toContain('Making the sample')

    const app = await open()
    await app.openPipeline()
    expect(await app.at('pipeline-item').count()).toBe(1)
    await app.chooseStep(STEP)
    expect(await app.editorText()).toContain(TYPED)
    await app.tab('runs')
    await app.at('run-item').nth(1).waitFor()
    await app.tab('report')
    await expectReport(app, (await app.at('run-state').getAttribute('data-run')) ?? '')
    expect(app.errors).toEqual([])
  })

  it('[UI10] does the main job without a mouse', async () => {
    const app = await open()
    const { keyboard } = app.page
    await app.at('pipeline-item').first().waitFor()
    const command = async (words: string) => {
      await keyboard.press('Control+k')
      await app.at('palette').waitFor()
      await keyboard.type(words)
      await app.at('palette').locator('[data-selected]', { hasText: words }).waitFor()
      await keyboard.press('Enter')
      await app.at('palette').waitFor({ state: 'detached' })
    }
    await command((await app.at('pipeline-item').first().getAttribute('title')) ?? '')
    await app.at('step-node').first().waitFor()
    await command(STEP)
    await app.page.getByRole('button', { name: `${STEP}.sql` }).waitFor()
    await app.tabTo('.cm-content')
    await keyboard.press('Control+End')
    await keyboard.type(`\n${BY_KEYS}`)
    expect(await app.editorText()).toContain(BY_KEYS)
    await app.stored()

    const before = await app.at('run-state').getAttribute('data-run')
    await keyboard.press('Control+Shift+Enter')
    const runId = await untilRun(app, before, async () => {
      await app.tabTo('[data-testid=grant-allow]')
      await keyboard.press('Enter')
    })
    // Esc then Tab leaves the editor, where Tab indents.
    await app.editor.focus()
    await keyboard.press('Escape')
    await keyboard.press('Tab')
    expect(await app.page.evaluate(`document.activeElement.closest('.cm-editor')`)).toBeNull()
    await keyboard.press('g')
    await keyboard.press('o')
    await expectReport(app, runId)
    expect(app.errors).toEqual([])
  })

  for (const colorScheme of ['light', 'dark'] as const)
    it(`[UI10][UI12] has nothing serious for axe-core and nothing cut off on any screen, ${colorScheme}`, async () => {
      const app = await open({
        colorScheme,
        viewport: { width: colorScheme === 'light' ? 1440 : 960, height: 900 },
      })
      await app.at('pipeline-item').first().waitFor()
      const found: Record<string, string[]> = {}
      found.home = [...(await app.axe()), ...(await app.tooWide())]
      const pipeline = await app.openPipeline()
      for (const tab of ['build', 'runs', 'report', 'history', 'discuss'] as const) {
        await app.tab(tab)
        await app.settled()
        found[tab] = [...(await app.axe()), ...(await app.tooWide())]
      }
      for (const place of ['reports', 'schedules', 'machine'] as const) {
        await app.page.evaluate(`location.hash = '#/${place}'`)
        await app.settled()
        found[place] = [...(await app.axe()), ...(await app.tooWide())]
      }
      await app.page.evaluate(`location.hash = '#/p/${pipeline}/build'`)
      await app.at('publish-button').click()
      await app.at('publish-dialog').waitFor()
      await app.settled()
      found.publish = [...(await app.axe()), ...(await app.tooWide())]
      expect(Object.fromEntries(Object.entries(found).filter(([, lines]) => lines.length > 0))).toEqual({})
      expect(app.errors).toEqual([])
    })
})
