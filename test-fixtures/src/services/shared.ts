import { askBroker, type S3Connection } from './broker.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

/** The administrator's address of this test run's Postgres: `DATABASE_URL_TEST`, else one that starts at the first call. */
export async function testPostgresUrl(): Promise<string> {
  return process.env.DATABASE_URL_TEST ?? (await askBroker('postgres')).url
}

/** An empty database of its own for a test file. Call `drop` in `afterAll`. */
export async function testDatabase(): Promise<TestDatabase> {
  return await createDatabase(await testPostgresUrl())
}

/** This test run's S3 server, started at the first call; take a bucket name of your own. Throws where it is missing. */
export async function testS3(): Promise<S3Connection> {
  const answer = await askBroker('s3')
  if ('missing' in answer) throw new Error(answer.missing)
  return answer
}
