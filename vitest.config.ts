import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

// Starts nothing by itself: Postgres and S3 start when a test first asks for them, once for the whole run.
const services = ['test-fixtures/src/services/global-setup.ts']

/** Projects whose files take longest come first, so that no worker is alone with a long one at the end. Others follow by name. */
const PROJECTS = ['acceptance', 'desktop', 'engine', 'sync-server', 'crdt-model']

/** Files that take long and are short to read: vitest knows nothing else of a file in a fresh clone than its size. */
const LONG = [
  'engine/test/simulation/simulation.test.ts',
  'test/app-two-devices.test.ts',
  'test/unreadable.test.ts',
  'test/two-devices.test.ts',
  'test/crash.test.ts',
  'test/bad-input-device.test.ts',
  'sync-server/test/fuzz/fuzz.test.ts',
  'sync-server/test/integrity/purge.test.ts',
  'sync-server/test/integrity/backup.test.ts',
]

/** Order in which test files run: project by project, so that a process can be used for the next file, and the long ones first. */
class TestOrder extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = new Map((await super.sort(files)).map((file, at) => [file, at]))
    const key = (file: TestSpecification): [project: number, long: number, other: number] => [
      before(PROJECTS.indexOf(file.project.name)),
      before(LONG.findIndex(path => file.moduleId.endsWith(`/${path}`))),
      place.get(file) ?? 0,
    ]
    const keys = new Map(files.map(file => [file, key(file)]))
    return files.toSorted((a, b) => {
      const [one, two] = [keys.get(a)!, keys.get(b)!]
      return one[0] - two[0] || one[1] - two[1] || one[2] - two[2]
    })
  }
}

const before = (index: number): number => (index < 0 ? Number.MAX_SAFE_INTEGER : index)

// One project for each package, so that `npx vitest run --project engine` runs a single one.
const project = (name: string, extra: Record<string, unknown> = {}) => ({
  test: {
    name,
    include: [`${name}/test/**/*.test.ts`],
    globalSetup: services,
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // What is waited for comes when the machine gets to it.
    expect: { poll: { timeout: 20_000 } },
    pool: 'forks' as const,
    // A process runs one file after another, each with modules of ours loaded anew: to start it and to load Automerge, DuckDB and
    // better-auth costs 1 to 2 s of CPU, more than most files.
    isolate: false,
    ...extra,
  },
})

export default defineConfig({
  test: {
    maxWorkers: 2,
    sequence: { sequencer: TestOrder },
    projects: [
      project('crdt-model'),
      project('migrations'),
      project('sync-server'),
      // Its files share more than modules: with a process for all, a mock of Automerge came too late, and the sample did not compile.
      project('engine', { isolate: true }),
      // It builds the app that other tests open, unless `npm test` has: then alone.
      project('desktop', process.env.PLUTO_TEST_BUILT ? {} : { isolate: true, fileParallelism: false }),
      project('test-fixtures'),
      project('scripts'),
      project('acceptance', {
        include: ['test/**/*.test.ts'],
        isolate: true,
        testTimeout: 600_000,
        hookTimeout: 300_000,
      }),
    ],
  },
})
