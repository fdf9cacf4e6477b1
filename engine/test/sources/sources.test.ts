import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { sourceDefinition } from '@pluto-duck/crdt-model'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Runner, RunnerError } from '../../src/runner/index.ts'
import { allowedOptions, checkOptions } from '../../src/sources/options.ts'
import { resolveSource, type SourceResolution, toPlanSource } from '../../src/sources/resolve-sources.ts'
import { SourceHashes } from '../../src/sources/source-state.ts'

let filesDir: string
beforeEach(async () => {
  filesDir = await fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-sources-')))
})
afterEach(() => fs.rm(filesDir, { recursive: true, force: true }))

async function put(files: Record<string, string>) {
  for (const [name, text] of Object.entries(files)) {
    await fs.mkdir(path.dirname(path.join(filesDir, name)), { recursive: true })
    await fs.writeFile(path.join(filesDir, name), text)
  }
}
const resolve = (source: Record<string, unknown>) =>
  resolveSource('orders', sourceDefinition.parse({ kind: 'csv', ...source }), { filesDir })
const found = (source: SourceResolution) =>
  source.state === 'ready' ? source.files.map(file => file.relative) : source.reason

describe('paths', () => {
  it('[SRC1] [SRC4] a file, a folder and a glob, in the order of names', async () => {
    await put({
      'b.csv': 'x\n1',
      'y/2.csv': 'x\n2',
      'y/1.tsv': 'x\n1',
      'y/z/3.csv.gz': '',
      'y/.hidden.csv': '',
      'y/notes.txt': '',
      'y/a.json': '[]',
    })
    expect(found(await resolve({ path: 'b.csv' }))).toEqual(['b.csv'])
    expect(found(await resolve({ path: path.join(filesDir, 'b.csv') }))).toEqual(['b.csv'])
    expect(found(await resolve({ path: 'y' }))).toEqual(['1.tsv', '2.csv', 'z/3.csv.gz'])
    expect(found(await resolve({ path: 'y/*.csv' }))).toEqual(['2.csv'])
    expect(found(await resolve({ path: '**/*.csv' }))).toEqual(['b.csv', 'y/2.csv'])
    expect(found(await resolve({ path: 'y', kind: 'json' }))).toEqual(['a.json'])
  })

  it('[SRC1] a symbolic link is the file that it leads to', async () => {
    await put({ 'real/a.csv': 'x\n1' })
    await fs.symlink(path.join(filesDir, 'real', 'a.csv'), path.join(filesDir, 'link.csv'))
    const source = await resolve({ path: 'link.csv' })
    expect(source.state === 'ready' && toPlanSource(source).paths).toEqual([
      path.join(filesDir, 'real', 'a.csv'),
    ])
  })

  it.each([
    ['a missing file', { path: 'gone.csv' }, 'missing'],
    ['an empty folder', { path: '.' }, 'missing'],
    ['a glob without a match', { path: 'x/*.csv' }, 'missing'],
    ['a way out', { path: '../../etc/passwd' }, 'outside'],
    ['an address', { path: 's3://bucket/a.csv' }, 'unsupported'],
    ['a zero byte', { path: 'a\0.csv' }, 'missing'],
    ['an unknown option', { path: 'a.csv', options: { filename: true } }, 'option'],
  ])('[SRC2] %s is a typed problem', async (_what, source, reason) => {
    const resolution = await resolve(source)
    expect(resolution).toMatchObject({
      state: 'failed',
      reason,
      message: expect.stringContaining('source.orders'),
    })
    expect(resolution.state === 'failed' && resolution.hint).not.toBe('')
  })

  it('[SRC2] a missing file is named', async () => {
    const source = await resolve({ path: 'sub/gone.csv' })
    expect(source.state === 'failed' && source.message).toContain(path.join(filesDir, 'sub', 'gone.csv'))
  })
})

describe('options', () => {
  it('[SRC3] are checked by type', () => {
    expect(
      checkOptions('csv', {
        delim: ';',
        header: true,
        skip: 2,
        nullstr: ['NA', ''],
        columns: [{ name: 'a', type: 'DECIMAL(9,2)' }],
      }),
    ).toEqual([])
    expect(checkOptions('csv', { header: 'yes' })).toEqual([
      { option: 'header', reason: 'has to be true or false' },
    ])
    expect(checkOptions('csv', { types: { a: "INTEGER'; DROP" } })).toHaveLength(1)
    expect(checkOptions('parquet', { delim: ',' })).toHaveLength(1)
    expect(checkOptions('csv', { constructor: 'x' })).toHaveLength(1)
  })

  it('[SRC3] what compile accepts, the runner accepts', async () => {
    await put({ 'a.csv': 'x\n1', 'a.json': '[{"x":1}]' })
    const runner = new Runner()
    const limits = { memory_bytes: 2 ** 28, threads: 1, temp_bytes: 0 }
    const paths = {
      csv: path.join(filesDir, 'a.csv'),
      json: path.join(filesDir, 'a.json'),
      parquet: path.join(filesDir, 'a.csv'),
    }
    await runner.configure({ limits, allowed_paths: Object.values(paths), connections: 1 })
    const refused: string[] = []
    for (const kind of ['csv', 'json', 'parquet'] as const) {
      for (const option of allowedOptions(kind)) {
        const source = { name: 'a', kind, paths: [paths[kind]], options: { [option]: 'x' } }
        await runner.defineSource(source).catch((error: unknown) => {
          const words =
            error instanceof RunnerError ? (error.failure.private ?? error.message) : String(error)
          if (/option that is not allowed/.test(words)) refused.push(`${kind}.${option}`)
        })
      }
    }
    await runner.kill()
    expect(refused).toEqual([])
  })
})

describe('states', () => {
  const stateOf = async (hashes: SourceHashes, where: string) => {
    const source = await resolve({ path: where })
    if (source.state !== 'ready') throw new Error(source.message)
    return (await hashes.stateOf(source)).hash
  }

  it('[PLAN5] a state is the content: not the path, not the time', async () => {
    await put({ 'a.csv': 'x\n1', 'sub/b.csv': 'x\n1' })
    const hashes = new SourceHashes(null)
    const before = await stateOf(hashes, 'a.csv')
    await fs.utimes(path.join(filesDir, 'a.csv'), 1, 1)
    expect(await stateOf(hashes, 'a.csv')).toBe(before)
    expect(await stateOf(hashes, 'sub/b.csv')).toBe(before)
    await put({ 'a.csv': 'x\n2' })
    expect(await stateOf(hashes, 'a.csv')).not.toBe(before)
  })

  it('[PLAN5] an edit that keeps size and time of change is noticed', async () => {
    const file = path.join(filesDir, 'a.csv')
    await put({ 'a.csv': 'x\n1' })
    const when = new Date('2020-01-01')
    await fs.utimes(file, when, when)
    const later = () => Date.now() + 10_000
    const hashes = new SourceHashes(path.join(filesDir, 'cache.json'), later)
    const before = await stateOf(hashes, 'a.csv')
    await hashes.save()
    await put({ 'a.csv': 'x\n2' })
    await fs.utimes(file, when, when)
    expect(await stateOf(new SourceHashes(path.join(filesDir, 'cache.json'), later), 'a.csv')).not.toBe(
      before,
    )
  })

  it('[PLAN5] a settled file is read once; a broken cache is as good as none', async () => {
    await put({ 'a.csv': 'x\n1' })
    const cache = path.join(filesDir, 'cache', 'hashes.json')
    const hashes = new SourceHashes(cache, () => Date.now() + 10_000)
    const before = await stateOf(hashes, 'a.csv')
    await hashes.save()
    expect(Object.keys(JSON.parse(await fs.readFile(cache, 'utf8')))).toEqual([path.join(filesDir, 'a.csv')])
    await fs.writeFile(cache, '{"half":')
    expect(await stateOf(new SourceHashes(cache), 'a.csv')).toBe(before)
  })
})
