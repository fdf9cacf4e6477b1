import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserOptions, launchChromium } from '@pluto-duck/test-fixtures/services'
import type { Locator, Page } from 'playwright-core'

const AXE = readFileSync(fileURLToPath(import.meta.resolve('axe-core')), 'utf8')

/** More than any screen has before its main part. */
const MAX_TABS = 80

/** What axe-core calls serious or critical, one line each. */
const AXE_RUN = `axe.run({ resultTypes: ['violations'] }).then(found => found.violations
  .filter(({ impact }) => impact === 'serious' || impact === 'critical')
  .map(({ id, nodes }) => id + ': ' + nodes.slice(0, 4).map(({ html }) => html.slice(0, 160)).join(' | ')))`

/** The app in a real browser, as a person sees it: by its names for tests (desktop/SPEC.md). */
export class AppPage {
  readonly page: Page
  /** Errors that the page threw or the browser told in its console. */
  readonly errors: string[] = []
  readonly #browser: Browser

  private constructor(browser: Browser, page: Page) {
    this.#browser = browser
    this.page = page
    page.setDefaultTimeout(30_000)
    page.on('console', message => {
      if (message.type() === 'error') this.errors.push(`console: ${message.text()} ${message.location().url}`)
    })
    page.on('pageerror', error => this.errors.push(`page: ${error.stack ?? error.message}`))
  }

  static async open(url: string, options: BrowserOptions = {}): Promise<AppPage> {
    const browser = await launchChromium(options)
    const app = new AppPage(browser, await browser.context.newPage())
    await app.page.goto(url)
    return app
  }

  at(testId: string): Locator {
    return this.page.getByTestId(testId)
  }

  /** Opens the first pipeline of the list and answers its id. */
  async openPipeline(): Promise<string> {
    const item = this.at('pipeline-item').first()
    await item.click()
    await this.at('step-node').first().waitFor()
    return (await item.getAttribute('data-pipeline')) ?? ''
  }

  async chooseStep(name: string): Promise<void> {
    await this.page.locator(`[data-testid=step-node][data-name="${name}"]`).click()
    await this.page.getByRole('button', { name: `${name}.sql` }).waitFor()
  }

  get editor(): Locator {
    return this.at('sql-editor').locator('.cm-content')
  }

  /** The editor's whole text, as far as it is drawn: steps in tests are shorter than a screen. */
  editorText(): Promise<string> {
    // A colleague's name stands at their cursor and is no part of the text.
    return this.page.evaluate<string>(`[...document.querySelectorAll('[data-testid=sql-editor] .cm-line')].map(line => {
      const text = line.cloneNode(true)
      for (const name of text.querySelectorAll('.cm-colleague')) name.remove()
      return text.textContent.replaceAll('\u200b', '')
    }).join('\\n')`)
  }

  /** Types at the start or the end of the step that is open, as keys. */
  async type(where: 'start' | 'end', text: string): Promise<void> {
    await this.editor.click()
    await this.page.keyboard.press(where === 'start' ? 'Control+Home' : 'Control+End')
    await this.page.keyboard.type(text)
  }

  tab(name: 'build' | 'runs' | 'report' | 'history' | 'discuss'): Promise<void> {
    return this.at(`tab-${name}`).click()
  }

  /** Waits until what is typed is on the host's disk. */
  async stored(): Promise<void> {
    await this.page.locator('footer [role=status]').waitFor({ state: 'detached' })
  }

  /** Notes every `data-state` that an element takes from now on. */
  async recordStates(testId: string): Promise<void> {
    await this.page.evaluate(`(() => {
      const states = (window.recordedStates = [])
      new MutationObserver(() => {
        const state = document.querySelector('[data-testid=${testId}]')?.dataset.state
        if (state && state !== states.at(-1)) states.push(state)
      }).observe(document.body, { subtree: true, childList: true, attributes: true })
    })()`)
  }

  recordedStates(): Promise<string[]> {
    return this.page.evaluate<string[]>('window.recordedStates')
  }

  /** Moves the focus by Tab alone until it is on what the selector names. */
  async tabTo(selector: string): Promise<void> {
    const passed: unknown[] = []
    for (let presses = 0; presses < MAX_TABS; presses++) {
      await this.page.keyboard.press('Tab')
      if (await this.page.evaluate(`document.activeElement.matches('${selector}')`)) return
      passed.push(await this.page.evaluate('document.activeElement.outerHTML.slice(0, 80)'))
    }
    throw new Error(`Tab does not reach ${selector}; it passed ${JSON.stringify(passed)}`)
  }

  /** Waits until nothing says that it is loading. */
  async settled(): Promise<void> {
    // What a new address asks for begins a moment later; the stream of events never ends, so the network tells nothing.
    await this.page.waitForTimeout(300)
    await this.page.locator('[aria-busy=true], main [role=status]').first().waitFor({ state: 'detached' })
  }

  /** Waits until the status bar says so, and that nothing waits to be sent; fails with what it said instead. */
  async untilSynced(state: 'in_sync' | 'needs_you', ms = 60_000): Promise<void> {
    const said = this.at('sync-state')
    await this.page
      .locator(`[data-testid=sync-state][data-state=${state}][data-waiting="0"]`)
      .waitFor({ timeout: ms })
      .catch(async () => {
        const attributes = await said.evaluate('node => JSON.stringify(node.dataset) + node.innerText')
        throw new Error(`expected ${state}, the app says: ${attributes}`)
      })
  }

  async setPaused(paused: boolean): Promise<void> {
    await this.at('sync-state').click()
    await this.at('pause-sync').click()
    await this.page.locator(`[data-testid=sync-state][data-paused=${paused}]`).waitFor()
    await this.page.keyboard.press('Escape')
    await this.at('pause-sync').waitFor({ state: 'detached' })
  }

  /** What axe-core finds serious or critical in the page now. */
  async axe(): Promise<string[]> {
    // What still fades in has colours of its own for a moment.
    await this.page.evaluate(
      'Promise.allSettled(document.getAnimations().filter(a => a.effect.getComputedTiming().endTime !== Infinity).map(a => a.finished))',
    )
    await this.page.evaluate(AXE)
    return this.page.evaluate<string[]>(AXE_RUN)
  }

  /** The parts of the screen that would have to be scrolled sideways, other than rows, graphs and code. */
  tooWide(): Promise<string[]> {
    return this.page.evaluate<
      string[]
    >(`[...document.querySelectorAll('main, main *, [role=dialog], [role=dialog] *')]
      .filter(node => /auto|scroll/.test(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth + 1)
      .filter(node => !node.matches('[role=grid], [role=group], [role=log], pre, textarea, .cm-scroller'))
      .map(node => 'wider than it is shown: ' + node.outerHTML.slice(0, 120))`)
  }

  close(): Promise<void> {
    return this.#browser.close()
  }
}
