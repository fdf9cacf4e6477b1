import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { available, type Browser, launchChromium } from '@pluto-duck/test-fixtures/services'
import type { Page } from 'playwright-core'
import { build } from 'vite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Serving, serve } from './serve.ts'

const CONFIG = fileURLToPath(new URL('../../vite.config.ts', import.meta.url))
const AXE = readFileSync(fileURLToPath(import.meta.resolve('axe-core')), 'utf8')

/** What a screen reader's user could not use; CodeMirror's scroller holds the focusable text itself. */
const seriousIn = (page: Page): Promise<string[]> =>
  page.evaluate(AXE).then(() =>
    page.evaluate<string[]>(
      `axe.run({ exclude: ['.cm-scroller', 'iframe'] }, { resultTypes: ['violations'] }).then(r => r.violations
        .filter(v => ['serious', 'critical'].includes(v.impact))
        .flatMap(v => v.nodes.map(n => v.id + ' ' + n.html.slice(0, 200))))`,
    ),
  )

describe.skipIf(!available('chromium'))('the app over a real host', () => {
  let host: Serving
  let browser: Browser
  let page: Page
  const complaints: string[] = []
  const watch = (opened: Page): Page => {
    opened.setDefaultTimeout(10_000)
    opened.on('pageerror', error => complaints.push(error.message))
    opened.on('console', message => {
      // While the host is down on purpose the browser itself reports refused connections.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
        complaints.push(message.text())
    })
    return opened
  }
  const sqlOf = (shown: Page): Promise<string> =>
    shown
      .locator('.cm-line')
      .allInnerTexts()
      .then(lines => lines.join('\n'))
  const typeAtEnd = async (into: Page, text: string): Promise<void> => {
    await into.locator('.cm-content').click()
    await into.keyboard.press('Control+End')
    await into.keyboard.type(text)
  }
  const until = (shown: Page, text: string): Promise<void> =>
    expect.poll(() => sqlOf(shown), { timeout: 15_000 }).toContain(text)
  const stored = (shown: Page): Promise<void> =>
    expect.poll(() => shown.locator('footer [role=status]').count(), { timeout: 10_000 }).toBe(0)

  /** Makes a pipeline whose run takes for ever, and answers its id. */
  const importLong = (into: Page): Promise<string> =>
    into.evaluate<string>(`fetch('/api/call/pipeline.import', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ files: {
        'pipeline.yaml': 'schema_version: 1\\nname: long\\nsteps:\\n  - name: only\\n',
        'only.sql': 'select sum(a.i * b.i) as s from range(10000000) a(i), range(10000000) b(i)\\n',
      } }),
    }).then(reply => reply.json()).then(reply => reply.value.pipeline.pipeline_id)`)

  beforeAll(async () => {
    // `npm test` has built it already, for all who open it.
    if (!process.env.PLUTO_TEST_BUILT) await build({ configFile: CONFIG, logLevel: 'error' })
    host = await serve()
    browser = await launchChromium()
    page = watch(await browser.context.newPage())
    await page.goto(host.url)
  })
  afterAll(async () => {
    await browser?.close()
    await host?.close()
  })

  it('[UI10] makes the sample, edits, runs, and shows the report with the keyboard alone', async () => {
    await page.getByTestId('create-sample').waitFor()
    await page.getByTestId('create-sample').focus()
    await page.keyboard.press('Enter')
    await page.getByTestId('step-node').first().waitFor()
    await page.getByTestId('step-node').first().focus()
    await page.keyboard.press('Enter')
    await page.locator('.cm-content').focus()
    await page.keyboard.press('Control+End')
    await page.keyboard.type('\n-- edited by keyboard')
    await page.keyboard.press('Control+Shift+Enter')
    const allow = page.getByTestId('grant-allow')
    const state = page.getByTestId('run-state')
    await allow.waitFor({ timeout: 20_000 })
    expect(await page.getByTestId('grant-dialog').innerText()).toContain('weather.csv')
    await allow.focus()
    await page.keyboard.press('Enter')
    await expect.poll(() => state.getAttribute('data-state'), { timeout: 60_000 }).toBe('success')
    await page.keyboard.press('Escape')
    await page.getByTestId('tab-build').focus()
    await page.keyboard.press('g')
    await page.keyboard.press('o')
    await page.getByTestId('report-frame').waitFor()
    const report = page.frameLocator('[data-testid=report-frame]')
    await expect.poll(() => report.locator('svg').count(), { timeout: 10_000 }).toBeGreaterThanOrEqual(2)
  })

  it('[UI20] rows that could not be read say so in their place, are not asked for in a circle, and are there after "Try again"', async () => {
    const scrolled = watch(await browser.context.newPage())
    const error = { code: 'run.resource', message: 'Memory ran out.', hint: 'Close other programs.' }
    let refused = 0
    await scrolled.route('**/api/call/result.rows', async route => {
      const { offset = 0 } = route.request().postDataJSON() as { offset?: number }
      if (offset === 0) return await route.continue()
      refused++
      await route.fulfill({ json: { ok: false, error } })
    })
    await scrolled.goto(page.url().replace('/report', '/build'))
    await scrolled.locator('[data-testid=step-node][data-name=daily]').click()
    const row = (number: number) => scrolled.locator(`[role=row][aria-rowindex="${number + 1}"]`)
    const scrollTo = (number: number): Promise<void> =>
      scrolled.evaluate(
        `document.querySelector('[data-testid=preview-grid] [role=grid]').scrollTop = ${(number - 1) * 26}`,
      )
    await row(1).waitFor()
    await scrollTo(300)
    const unread = scrolled.getByTestId('rows-not-read')
    await unread.waitFor()
    expect(await unread.innerText()).toMatch(/Rows 201 to 400 could not be read\s+Memory ran out\./)
    expect(await seriousIn(scrolled)).toEqual([])
    await scrollTo(320)
    await row(320).waitFor()
    expect(await unread.getByRole('button', { name: 'Try again' }).isVisible()).toBe(true)
    expect(refused).toBe(1)
    await scrolled.unroute('**/api/call/result.rows')
    await unread.getByRole('button', { name: 'Try again' }).click()
    await unread.waitFor({ state: 'detached' })
    await expect.poll(() => row(320).innerText()).toMatch(/320\s+\S+\s+\d{4}-\d\d-\d\d/)
    await scrolled.close()
  })

  it('[EDIT2] two windows type in one step: both show everything, undo takes back only one’s own', async () => {
    const step = await page
      .getByTestId('step-node')
      .first()
      .getAttribute('data-step')
      .catch(() => null)
    expect(step).toBeNull()
    await page.getByTestId('tab-build').click()
    const second = watch(await browser.context.newPage())
    await second.goto(page.url())
    await second.locator('.cm-content').waitFor()
    await typeAtEnd(page, '\n-- from one 🦆')
    await until(second, '-- from one 🦆')
    await typeAtEnd(second, '\n-- from two 매출')
    await until(page, '-- from two 매출')
    expect(await sqlOf(page)).toBe(await sqlOf(second))
    await page.locator('.cm-content').focus()
    for (let times = 0; times < 3; times += 1) await page.keyboard.press('Control+z')
    await expect.poll(() => sqlOf(page)).not.toContain('-- from one 🦆')
    expect(await sqlOf(page)).toContain('-- from two 매출')
    await expect.poll(() => sqlOf(second), { timeout: 10_000 }).toBe(await sqlOf(page))
    await second.close()
  })

  it('[EDIT4][EDIT8][EDIT9][UI16] what is typed while the host is dead is stored when it is back, also where one left; a run that ended is not shown as running', async () => {
    await stored(page)
    const staying = watch(await browser.context.newPage())
    await staying.goto(`${new URL(page.url()).origin}/#/p/${await importLong(page)}/build`)
    await staying.locator('.cm-content').waitFor()
    await staying.getByTestId('run-button').click()
    const state = staying.getByTestId('run-state')
    await expect.poll(() => state.getAttribute('data-state'), { timeout: 30_000 }).toBe('running')
    const address = page.url()

    const back = host.restart()
    await page.getByTestId('host-away').waitFor()
    await typeAtEnd(page, '\n-- typed, then left')
    await page.evaluate(`location.hash = '#/'`)
    await page.getByTestId('pipeline-name').waitFor({ state: 'detached' })
    await typeAtEnd(staying, '\n-- typed without a host')
    expect(await staying.getByTestId('held').innerText()).toMatch(/changes? only in this window/)
    expect(await staying.getByTestId('host-away').innerText()).toContain('leave it open')
    const questions: string[] = []
    staying.on('dialog', question => {
      questions.push(question.type())
      void question.dismiss()
    })
    await staying.close({ runBeforeUnload: true })
    await expect.poll(() => questions).toEqual(['beforeunload'])
    const url = await back
    // A new host has a new token: its address, opened once, lets these windows in again.
    const other = watch(await browser.context.newPage())
    await other.goto(url)
    await other.close()
    for (const shown of [page, staying]) await stored(shown)
    await expect.poll(() => state.getAttribute('data-state'), { timeout: 15_000 }).toBe('failed')
    expect(await staying.getByTestId('run-button').isEnabled()).toBe(true)
    await staying.reload()
    await until(staying, '-- typed without a host')
    expect(questions).toHaveLength(1)
    await staying.close()
    await page.goto(address)
    await until(page, '-- typed, then left')
    await page.reload()
    await until(page, '-- typed, then left')
  })

  it('[UI4] says what leaves before a publish, and queues it where there is no server yet', async () => {
    await page.keyboard.press('Control+s')
    const dialog = page.getByTestId('publish-dialog')
    await dialog.waitFor()
    expect(await dialog.innerText()).toContain('What leaves this machine')
    await page.getByTestId('publish-confirm').click()
    await dialog.waitFor({ state: 'detached' })
    await page.getByText('The version is queued').waitFor()
  })

  it('[UI8][EDIT6] a comment on lines is there after a reload, and says when its lines are gone', async () => {
    await page.getByTestId('tab-build').click()
    await typeAtEnd(page, '\n-- to be discussed')
    await page.keyboard.press('Control+Alt+m')
    await page.getByTestId('comment-input').fill('Why? 왜요?')
    await page.getByTestId('comment-submit').click()
    const thread = page.getByTestId('comment-thread')
    await expect.poll(() => thread.getAttribute('data-place')).toBe('at')
    await page.reload()
    await expect.poll(() => thread.count(), { timeout: 10_000 }).toBe(1)
    await page.getByTestId('tab-build').click()
    await page.locator('.cm-content').click()
    await page.keyboard.press('Control+End')
    await page.keyboard.press('Shift+Home')
    await page.keyboard.press('Delete')
    await page.getByTestId('tab-discuss').click()
    await expect.poll(() => thread.getAttribute('data-place')).toBe('orphaned')
    expect(await thread.innerText()).toContain('-- to be discussed')
  })

  it('[UI13] a long pipeline is shown before it is loaded, says so, and can be edited in the same editor after', async () => {
    await page.getByTestId('tab-build').click()
    await page.getByTestId('report-source').click()
    // No compression makes this short.
    const long = randomBytes(13_000).toString('base64').replace(/.{76}/g, '$&\n')
    await page.locator('.cm-content').click()
    await page.keyboard.press('Control+Home')
    await page.keyboard.insertText(`The long report\n${long}\n`)
    await stored(page)

    const again = watch(await browser.context.newPage())
    await again.addInitScript({
      content: `window.seen = []
        new MutationObserver(() => {
          const of = id => document.querySelector('[data-testid=' + id + ']')
          const text = document.querySelector('.cm-content')?.textContent ?? ''
          if (text !== '')
            seen.push({ opening: of('opening') !== null, text: text.slice(0, 15), locked: of('add-step')?.disabled })
        }).observe(document, { subtree: true, childList: true, attributes: true })`,
    })
    await again.goto(page.url())
    await until(again, 'The long report')
    await expect.poll(() => again.getByTestId('opening').count(), { timeout: 15_000 }).toBe(0)
    const seen = await again.evaluate<unknown[]>('window.seen')
    expect(seen).toContainEqual({ opening: true, text: 'The long report', locked: true })
    expect(seen.at(-1)).toEqual({ opening: false, text: 'The long report', locked: false })
    await again.locator('.cm-line').first().click()
    await again.keyboard.press('Home')
    await again.keyboard.type('Now: ')
    await until(again, 'Now: The long report')
    await stored(again)
    await again.close()
  })

  it('[UI23] a page whose parts did not all arrive says so and what to do, and starts when they are there', async () => {
    // Not watched: that it could not start is thrown as well.
    const partial = await browser.context.newPage()
    await partial.route('**/*.wasm', route => route.abort())
    await partial.goto(page.url())
    const said = partial.getByTestId('not-started')
    await said.waitFor()
    expect(await said.innerText()).toMatch(/The app could not be started[\s\S]*What was stored is safe/)
    expect(await seriousIn(partial)).toEqual([])
    await partial.unroute('**/*.wasm')
    await said.getByRole('button', { name: 'Try again' }).click()
    await partial.getByTestId('pipeline-name').waitFor()
    await partial.close()
  })

  it('[UI10] no screen has a serious fault for assistive technology, and nothing complained', async () => {
    for (const tab of ['build', 'runs', 'report', 'history', 'discuss']) {
      await page.getByTestId(`tab-${tab}`).click()
      await page.waitForTimeout(800)
      expect([tab, await seriousIn(page)]).toEqual([tab, []])
    }
    expect(complaints).toEqual([])
  })
})
