import { fileURLToPath } from 'node:url'
import { defineConfig, mergeConfig } from 'vite'
import app from '../../vite.config.ts'

/** The app over a bridge in memory, to look at its screens. Never shipped, and no acceptance test uses it. */
export default mergeConfig(
  app,
  defineConfig({
    root: fileURLToPath(new URL('.', import.meta.url)),
    build: { outDir: fileURLToPath(new URL('../../dist/harness', import.meta.url)), minify: false },
  }),
)
