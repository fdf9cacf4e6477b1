import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium } from 'playwright-core'
import { chromiumPath, missing } from './available.ts'

export interface BrowserOptions {
  /** In CSS pixels. Default: 1440 x 900. */
  readonly viewport?: { readonly width: number; readonly height: number }
  /** Default: light. */
  readonly colorScheme?: 'light' | 'dark'
}

export interface Browser {
  readonly context: BrowserContext
  /** Ends the browser and removes its user data. */
  close(): Promise<void>
}

const flags = [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--no-first-run',
]

/** Starts the system's Chromium without a window and with empty user data. Throws where `available('chromium')` is false. */
export async function launchChromium(options: BrowserOptions = {}): Promise<Browser> {
  const executablePath = chromiumPath()
  if (executablePath === undefined) throw new Error(missing('chromium'))
  const userData = await mkdtemp(join(tmpdir(), 'pluto-chromium-'))
  const context = await chromium.launchPersistentContext(userData, {
    executablePath,
    headless: true,
    // Chromium's own sandbox cannot start as root.
    args: process.getuid?.() === 0 ? [...flags, '--no-sandbox'] : flags,
    viewport: options.viewport ?? { width: 1440, height: 900 },
    colorScheme: options.colorScheme ?? 'light',
  })
  return {
    context,
    async close() {
      await context.close()
      await rm(userData, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}
