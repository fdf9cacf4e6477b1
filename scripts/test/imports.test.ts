import { resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkImports, type Manifest, unusedDependencies } from '../imports/rules.ts'
import { scanText } from '../imports/scan.ts'
import { readTree } from '../imports/tree.ts'

const manifest = (folder: string, dependencies: string[], devDependencies: string[] = []): Manifest => ({
  folder,
  name: folder === '' ? 'pluto-duck' : `@pluto-duck/${folder}`,
  dependencies: new Set(dependencies),
  devDependencies: new Set(devDependencies),
})
const ours = ['crdt-model', 'migrations', 'sync-server', 'engine', 'desktop', 'test-fixtures']
const everything = ours.map(name => `@pluto-duck/${name}`)
const manifests = [
  manifest('', [], ['vitest', 'zod']),
  ...ours.map(folder => manifest(folder, [...everything, '@automerge/automerge', 'zod'])),
]

function messages(files: Record<string, string>, declared: readonly Manifest[] = manifests): string[] {
  const scanned = Object.entries(files).map(([path, text]) => scanText(path, text))
  return checkImports(scanned, declared).map(({ path, line, message }) => `${path}:${line} ${message}`)
}
const oneFile = (path: string, text: string) => messages({ [path]: text })

describe('the arrows between packages', () => {
  it('[ARCH1] the repository follows them', () => {
    const tree = readTree(resolve(import.meta.dirname, '../..'))
    expect(tree.files.length).toBeGreaterThan(20)
    expect(checkImports(tree.files, tree.manifests)).toEqual([])
  })

  it.each([
    ['crdt-model/src/a.ts', '@pluto-duck/migrations/server'],
    ['migrations/src/server/a.ts', '@pluto-duck/crdt-model'],
    ['sync-server/src/a.ts', '@pluto-duck/engine'],
    ['sync-server/src/a.ts', '@pluto-duck/migrations/local'],
    ['sync-server/src/a.ts', '@pluto-duck/crdt-model/testing'],
    ['engine/src/a.ts', '@pluto-duck/sync-server'],
    ['engine/src/contract/a.ts', '@pluto-duck/migrations/local'],
    ['engine/src/contract/a.ts', '../host/start.ts'],
    ['desktop/renderer/a.ts', '@pluto-duck/engine'],
    ['desktop/renderer/a.svelte', '../main/window.ts'],
    ['desktop/main/a.ts', '@pluto-duck/sync-server'],
    ['test-fixtures/src/a.ts', '@pluto-duck/crdt-model'],
    ['engine/src/a.ts', '@pluto-duck/test-fixtures/services'],
    ['engine/src/a.ts', '../test/fake.ts'],
    ['engine/src/a.ts', '../../crdt-model/src/index.ts'],
    ['crdt-model/test/a.test.ts', '@pluto-duck/engine'],
    ['engine/src/a.ts', '@pluto-duck/engine/contract'],
  ])('[ARCH2] %s may not import %s', (path, specifier) => {
    const line = `import { x } from '${specifier}'`
    const found = oneFile(
      path,
      path.endsWith('.svelte') ? `<p>a</p>\n<script lang="ts">\n${line}\n</script>` : line,
    )
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(path.endsWith('.svelte') ? `${path}:3` : `${path}:1`)
  })

  it.each([
    ['sync-server/src/a.ts', '@pluto-duck/migrations/server'],
    ['engine/src/a.ts', '@pluto-duck/crdt-model/protocol'],
    ['engine/src/host/a.ts', '../contract/index.ts'],
    ['engine/test/a.test.ts', '@pluto-duck/sync-server'],
    ['engine/test/a.test.ts', '@pluto-duck/crdt-model/testing'],
    ['crdt-model/test/a.test.ts', '@pluto-duck/test-fixtures'],
    ['desktop/renderer/a.ts', '@pluto-duck/engine/contract'],
    ['desktop/main/a.ts', '@pluto-duck/engine'],
    ['test/a.test.ts', '@pluto-duck/engine'],
    ['scripts/start.ts', '@pluto-duck/sync-server'],
  ])('[ARCH2] %s may import %s', (path, specifier) => {
    expect(oneFile(path, `import { x } from '${specifier}'`)).toEqual([])
  })

  it('[ARCH3] code that runs in browsers has no Node module and no platform global', () => {
    expect(oneFile('crdt-model/src/a.ts', `import fs from 'node:fs'`)).toHaveLength(1)
    expect(oneFile('crdt-model/src/a.ts', `const fs = await import('fs/promises')`)).toHaveLength(1)
    expect(oneFile('engine/src/contract/a.ts', 'const home = process.env.HOME')).toHaveLength(1)
    expect(oneFile('crdt-model/src/a.ts', `localStorage.setItem('a', 'b')`)).toHaveLength(1)
    expect(oneFile('desktop/renderer/a.ts', `import path from 'node:path'`)).toHaveLength(1)
    expect(oneFile('desktop/renderer/a.ts', `localStorage.setItem('a', 'b')`)).toEqual([])
    expect(
      oneFile('crdt-model/src/a.ts', 'export const run = (job: { process(): void }) => job.process()'),
    ).toEqual([])
  })

  it('[ARCH4] Automerge does not come into the wire by a neighbour', () => {
    const files = {
      'crdt-model/src/protocol/index.ts': `export * from '../documents/definition.ts'`,
      'crdt-model/src/documents/definition.ts': `import { z } from 'zod'\nimport './text.ts'`,
      'crdt-model/src/documents/text.ts': `import { splice } from '@automerge/automerge'`,
    }
    expect(messages(files)).toEqual([
      'crdt-model/src/protocol/index.ts:1 the wire holds no @automerge/automerge, and this brings it in',
    ])
    expect(messages({ ...files, 'crdt-model/src/documents/text.ts': '' })).toEqual([])
  })

  it('[ARCH5] what is imported is declared, and what is declared and unused is said', () => {
    expect(oneFile('engine/src/a.ts', `import x from 'left-pad/deep'`)).toEqual([
      'engine/src/a.ts:1 left-pad is not among the dependencies in engine/package.json',
    ])
    expect(oneFile('engine/src/a.ts', `import { it } from 'vitest'`)).toHaveLength(1)
    expect(oneFile('engine/test/a.test.ts', `import { it } from 'vitest'`)).toEqual([])
    expect(oneFile('desktop/build.ts', `import { build } from 'vitest'`)).toEqual([])
    expect(oneFile('engine/src/a.ts', `export type A = import('left-pad').A`)).toHaveLength(1)
    expect(oneFile('engine/src/a.ts', `const color = { tag: tags.import, color: 'var(--a)' }`)).toEqual([])
    expect(oneFile('desktop/renderer/app.css', `@import 'tailwindcss';`)).toHaveLength(1)
    const used = [scanText('engine/src/a.ts', `import { z } from 'zod'`)]
    const declared = [manifest('engine', ['zod', 'yaml', '@types/express'])]
    expect(unusedDependencies(used, declared)).toEqual([
      'engine/package.json declares yaml, and nothing there imports it',
    ])
  })
})
