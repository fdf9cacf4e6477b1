import { defineConfig } from 'vitest/config'

// Starts nothing by itself: Postgres and S3 start when a test first asks for them, once for the whole run.
const services = ['test-fixtures/src/services/global-setup.ts']

// One project for each package, so that `npx vitest run --project engine` runs a single one.
const project = (name: string, extra: Record<string, unknown> = {}) => ({
  test: {
    name,
    include: [`${name}/test/**/*.test.ts`],
    globalSetup: services,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: 'forks' as const,
    ...extra,
  },
})

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project('crdt-model'),
      project('migrations'),
      project('sync-server'),
      project('engine'),
      project('desktop', { fileParallelism: false }),
      project('test-fixtures'),
      project('scripts'),
      project('acceptance', {
        include: ['test/**/*.test.ts'],
        testTimeout: 600_000,
        hookTimeout: 300_000,
      }),
    ],
  },
})
