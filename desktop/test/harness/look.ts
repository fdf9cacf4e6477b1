/**
 * Takes pictures of the app's screens over the harness's bridge: `node test/harness/look.ts DIR [name…]`, after
 * `vite build --config test/harness/vite.config.ts`. For a person to look at; nothing is compared.
 */
import { createReadStream, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PAGE_CSP } from '@pluto-duck/engine/contract'
import { launchChromium } from '@pluto-duck/test-fixtures/services'

const [out = 'pictures', ...only] = process.argv.slice(2)
const axe = readFileSync(fileURLToPath(import.meta.resolve('axe-core')), 'utf8')
const root = fileURLToPath(new URL('../../dist/harness', import.meta.url))
const types: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
  '.svg': 'image/svg+xml',
}
const server = createServer((request, response) => {
  const path = new URL(request.url ?? '/', 'http://x').pathname
  const file = join(root, path === '/' ? 'index.html' : path)
  if (!existsSync(file)) return void response.writeHead(404).end()
  response.writeHead(200, {
    'content-type': types[extname(file)] ?? 'text/plain',
    'content-security-policy': PAGE_CSP,
  })
  createReadStream(file).pipe(response)
}).listen(0)
const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const P = '0190a000-0000-7000-8000-000000000001'

const run = async (page: Page): Promise<void> => {
  await page.getByTestId('run-button').click()
  await page.waitForTimeout(2500)
}
const typed = async (page: Page): Promise<void> => {
  await page.locator('.cm-content').click()
  await page.keyboard.type('-- not stored')
}
const shots: [name: string, scene: string, hash: string, act?: (page: Page) => Promise<unknown>][] = [
  ['empty', 'empty', '#/'],
  ['home', 'sample', '#/'],
  ['build', 'sample', `#/p/${P}/build/s3`],
  ['build-run', 'sample', `#/p/${P}/build/s1`, run],
  ['runs', 'sample', `#/p/${P}/runs`, run],
  ['report', 'sample', `#/p/${P}/report`, run],
  ['report-none', 'sample', `#/p/${P}/report`],
  ['history', 'sample', `#/p/${P}/history`],
  ['publish', 'sample', `#/p/${P}/build/s3`, page => page.getByTestId('publish-button').click()],
  ['marks', 'marks', `#/p/${P}/build/s3`, page => page.getByRole('button', { name: 'Show both' }).click()],
  ['offline', 'offline', `#/p/${P}/build/s3`, page => page.getByTestId('sync-state').click()],
  ['drafts', 'draft', '#/drafts'],
  ['drafts-comments', 'draft', `#/drafts/${P.slice(0, -2)}47`],
  ['restore', 'sample', `#/p/${P}/history`, page => page.getByTestId('restore-button').first().click()],
  [
    'discuss',
    'sample',
    `#/p/${P}/discuss`,
    async page => {
      await page
        .getByTestId('comment-input')
        .fill('Why do we leave cancelled orders out here? 취소된 주문은요?')
      await page.getByTestId('comment-submit').click()
      await page.getByTestId('reply-button').first().click()
    },
  ],
  ['palette', 'sample', `#/p/${P}/build/s3`, page => page.keyboard.press('Control+k')],
  ['shortcuts', 'sample', '#/', page => page.keyboard.press('?')],
  ['machine', 'sample', '#/machine'],
  ['schedules', 'sample', '#/schedules'],
  ['unread', 'unread', `#/p/${P}/build/s3`],
  ['unread-publish', 'unread', `#/p/${P}/build/s3`, page => page.getByTestId('publish-button').click()],
  [
    'unread-summary',
    'unread',
    `#/p/${P}/build/s1`,
    async page => {
      await run(page)
      await page.getByRole('button', { name: 'Summary of revenue' }).first().click()
    },
  ],
  [
    'sign-in-failed',
    'empty',
    '#/',
    async page => {
      await page.getByRole('button', { name: 'Sign in' }).first().click()
      await page.locator('#sign-in-server').fill('https://pluto.example.com')
      await page.keyboard.press('Enter')
      await page.waitForTimeout(1500)
    },
  ],
  [
    'unread-rows',
    'unread',
    `#/p/${P}/build/s1`,
    async page => {
      await run(page)
      await page.evaluate(
        `document.querySelector('[data-testid=preview-grid] [role=grid]').scrollTop = 26 * 390`,
      )
    },
  ],
  [
    'away-held',
    'away',
    `#/p/${P}/build/s3`,
    async page => {
      await page.locator('.cm-content').click()
      await page.keyboard.type('-- while the host is away')
    },
  ],
  [
    'full-disk-publish',
    'full-disk',
    `#/p/${P}/build/s3`,
    async page => {
      await typed(page)
      await page.getByTestId('publish-button').click()
      await page.getByTestId('publish-confirm').click()
    },
  ],
  [
    'full-disk-run',
    'full-disk',
    `#/p/${P}/build/s3`,
    async page => {
      await typed(page)
      await page.getByTestId('run-button').click()
    },
  ],
  ['viewer', 'viewer', `#/p/${P}/build/s3`],
  ['viewer-home', 'viewer', '#/'],
  ['viewer-schedules', 'viewer', '#/schedules'],
  ['viewer-publish', 'viewer', `#/p/${P}/build/s3`, page => page.keyboard.press('Control+s')],
  ['refused', 'refused', `#/p/${P}/history`],
  ['refused-panel', 'refused', `#/p/${P}/build/s3`, page => page.getByTestId('sync-state').click()],
  ['full-build', 'full', `#/p/${P}/build/w100`],
  ['full-history', 'full', `#/p/${P}/history`],
]
type Page = import('playwright-core').Page

mkdirSync(out, { recursive: true })
for (const [theme, width] of [
  ['light', 1440],
  ['dark', 1440],
  ['light', 960],
  ['dark', 960],
] as const) {
  const browser = await launchChromium({ colorScheme: theme, viewport: { width, height: 900 } })
  const page = await browser.context.newPage()
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) console.log(theme, width, message.text())
  })
  page.on('pageerror', error => console.log(theme, width, 'page error', error.message))
  for (const [name, scene, hash, act] of shots) {
    if (only.length > 0 && !only.includes(name)) continue
    await page.goto('about:blank')
    await page.goto(`${base}/?scene=${scene}${hash}`)
    await page.waitForTimeout(900)
    await act?.(page)
    await page.waitForTimeout(400)
    await page.evaluate(axe)
    const found = await page.evaluate<string[]>(
      `axe.run({ resultTypes: ['violations'] }).then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact)).map(v => v.id + ': ' + v.nodes.slice(0, 4).map(n => n.html.slice(0, 160)).join(' | ')))`,
    )
    for (const line of found) console.log(name, theme, width, line)
    await page.screenshot({ path: join(out, `${name}-${theme}-${width}.png`) })
  }
  await browser.close()
}
server.close()
