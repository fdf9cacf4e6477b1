import { defineConfig } from 'vitest/config'

// One project for each package, so that `npx vitest run --project engine` runs a single one.
const project = (name: string, extra: Record<string, unknown> = {}) => ({
  test: {
    name,
    include: [`${name}/test/**/*.test.ts`],
    testTimeout: 60_000,
    hookTimeout: 120_000,
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
      {
        test: {
          name: 'acceptance',
          include: ['test/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 180_000,
          pool: 'forks' as const,
          fileParallelism: false,
        },
      },
    ],
  },
})
