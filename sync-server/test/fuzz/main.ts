import { parseArgs } from 'node:util'
import { createDatabase, startPostgres } from '@pluto-duck/test-fixtures/services'
import { fuzz } from './fuzz.ts'
import { keepRegression } from './regressions.ts'

const HELP = `npm run fuzz [-- OPTIONS]   sends broken requests to a real server on a real Postgres

  --seed N     which inputs (default 1)
  --count N    how many (default 100000)
  --from N     the first one, to come back to one that failed (default 0)
  --json       one JSON object on standard output, nothing else
  --help

DATABASE_URL_TEST points it to a Postgres of yours; else it starts one.
Each input that fails is kept in test-fixtures/regressions/wire: mend it, and commit the file.
Exit codes: 0 nothing found, 1 something found, 2 wrong usage.`

/** Failures of one run that are kept; more say the same. */
const KEPT = 20

const number = (name: string, given: string | undefined, fallback: number): number => {
  const value = given === undefined ? fallback : Number(given)
  if (Number.isSafeInteger(value) && value >= 0) return value
  console.error(`--${name} takes a whole number from 0, not ${given}. Try --help.`)
  process.exit(2)
}

const read = () => {
  try {
    return parseArgs({
      options: {
        seed: { type: 'string' },
        count: { type: 'string' },
        from: { type: 'string' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    console.error(`${(error as Error).message}\nTry --help.`)
    process.exit(2)
  }
}

const options = read()
if (options.help) console.log(HELP)
else {
  const seed = number('seed', options.seed, 1)
  const count = number('count', options.count, 100_000)
  const from = number('from', options.from, 0)
  const own = process.env.DATABASE_URL_TEST ? null : await startPostgres()
  const database = await createDatabase(process.env.DATABASE_URL_TEST ?? (own?.url as string))
  const began = performance.now()
  try {
    const report = await fuzz({
      seed,
      from,
      count,
      databaseUrl: database.url,
      onProgress: (done, memoryMb) => {
        if (!options.json && done % 5000 === 0)
          console.log(`${done} inputs, the server holds ${memoryMb === null ? '?' : Math.round(memoryMb)} MB`)
      },
    })
    const kept = report.failures
      .slice(0, KEPT)
      .map(({ index, why, input }) => keepRegression(seed, index, why.slice(0, 300), input))
    const { failures, problems } = report
    if (options.json) {
      const brief = failures.map(({ index, why }) => ({ index, why }))
      console.log(
        JSON.stringify({ ...report, failures: brief, kept, seconds: (performance.now() - began) / 1000 }),
      )
    } else {
      for (const { index, why } of failures.slice(0, KEPT)) console.log(`input ${index}: ${why}`)
      for (const path of kept) console.log(`kept ${path}`)
      for (const problem of problems) console.log(problem)
      const { inputs, stored, documents, statuses } = report
      console.log(
        `${inputs} inputs of seed ${seed}: ${failures.length} failed, ${problems.length} problems; answers ${JSON.stringify(statuses)}; ` +
          `${stored} changes stored in ${documents} documents${problems.length === 0 ? ', which load and equal their replay' : ''}`,
      )
    }
    process.exitCode = failures.length + problems.length === 0 ? 0 : 1
  } finally {
    await database.drop()
    await own?.stop()
  }
}
