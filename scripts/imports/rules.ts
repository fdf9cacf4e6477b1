import { builtinModules } from 'node:module'
import { posix } from 'node:path'
import type { Import, ScannedFile } from './scan.ts'

/** A `package.json`, as far as imports are concerned. */
export interface Manifest {
  readonly folder: string
  readonly name: string
  /** Names in `dependencies` and `optionalDependencies`. */
  readonly dependencies: ReadonlySet<string>
  readonly devDependencies: ReadonlySet<string>
}

export interface Problem {
  readonly path: string
  readonly line: number
  readonly message: string
}

/** Where a file lies decides what it may import. */
interface Zone {
  readonly name: string
  readonly folder: string
  /** Packages of ours, each as `name` or `name/subpath`. */
  readonly ours: readonly string[]
  /** Runs in a browser too: no `node:*`, no global of one platform. */
  readonly isomorphic?: boolean
  /** Packages of others that this zone may not reach, not even through its relative imports. */
  readonly never?: readonly string[]
  /** May import only files of this zone and of these other folders by relative path. */
  readonly closed?: readonly string[]
}

const model = ['crdt-model', 'crdt-model/protocol', 'crdt-model/errors', 'crdt-model/definition']

// DESIGN's arrows. The first zone whose folder holds the file counts.
const zones: readonly Zone[] = [
  {
    name: 'the wire',
    folder: 'crdt-model/src/protocol/',
    ours: [],
    isomorphic: true,
    never: ['@automerge/automerge'],
  },
  { name: 'the errors', folder: 'crdt-model/src/errors/', ours: [], isomorphic: true, closed: [] },
  { name: 'crdt-model', folder: 'crdt-model/src/', ours: [], isomorphic: true },
  { name: 'migrations', folder: 'migrations/src/', ours: [] },
  { name: 'sync-server', folder: 'sync-server/', ours: [...model, 'migrations/server'] },
  {
    name: 'the bridge',
    folder: 'engine/src/contract/',
    ours: model,
    isomorphic: true,
    closed: [],
  },
  { name: 'engine', folder: 'engine/', ours: [...model, 'migrations/local'] },
  {
    name: 'the renderer',
    folder: 'desktop/renderer/',
    ours: [...model, 'engine/contract'],
    isomorphic: false,
    closed: [],
  },
  { name: 'desktop', folder: 'desktop/', ours: ['engine', 'engine/contract'] },
  { name: 'test-fixtures', folder: 'test-fixtures/', ours: [] },
]

const scope = '@pluto-duck/'
const builtins = new Set(builtinModules)

/** Checks every file against the arrows and against what its package declares. */
export function checkImports(files: readonly ScannedFile[], manifests: readonly Manifest[]): Problem[] {
  const byPath = new Map(files.map(file => [file.path, file]))
  return files.flatMap(file => [
    ...file.imports.flatMap(found => {
      const message = checkArrow(file.path, found) ?? checkDeclared(file.path, found, manifests)
      return message === undefined ? [] : [{ path: file.path, line: found.line, message }]
    }),
    ...checkIsomorphic(file),
    ...checkReach(file, byPath),
  ])
}

/** Dependencies that no file of their package imports. Tools and peers are used without an import, so these are only warnings. */
export function unusedDependencies(files: readonly ScannedFile[], manifests: readonly Manifest[]): string[] {
  return manifests.flatMap(manifest => {
    const used = new Set(
      files
        .filter(file => ownerOf(file.path, manifests) === manifest)
        .flatMap(file => file.imports.map(found => packageOf(found.specifier))),
    )
    return [...manifest.dependencies]
      .filter(name => !used.has(name) && !name.startsWith('@types/'))
      .map(name => `${manifest.folder || '.'}/package.json declares ${name}, and nothing there imports it`)
  })
}

function checkArrow(path: string, { specifier }: Import): string | undefined {
  const zone = zoneOf(path)
  if (isRelative(specifier)) return checkRelative(path, specifier, zone)
  if (!specifier.startsWith(scope)) return undefined
  const target = specifier.slice(scope.length)
  if (zone === undefined) return undefined
  if (target === zone.folder.split('/')[0])
    return isTest(path) ? undefined : 'a package imports its own files by relative path'
  if (isTest(path)) {
    // A test may use more than the code it tests, but crdt-model and migrations stand alone even there.
    const alone = ['crdt-model/', 'migrations/', 'test-fixtures/'].some(folder =>
      zone.folder.startsWith(folder),
    )
    const forTests = target === 'crdt-model/testing' || target.split('/')[0] === 'test-fixtures'
    return forTests || !alone
      ? undefined
      : `tests of ${zone.name} may import test-fixtures and crdt-model/testing, not ${target}`
  }
  if (zone.ours.includes(target)) return undefined
  return `${zone.name} may import ${zone.ours.length === 0 ? 'nothing of ours' : zone.ours.join(', ')}, not ${target}`
}

function checkRelative(path: string, specifier: string, zone: Zone | undefined): string | undefined {
  const target = resolveRelative(path, specifier)
  const [from, to] = [packageFolder(path), packageFolder(target)]
  if (from !== to) return `another package is imported by its name (${scope}${to}), not by relative path`
  if (!isTest(path) && isTest(target)) return 'code does not import from tests'
  if (zone?.closed === undefined || isTest(path) || target.startsWith(zone.folder)) return undefined
  return `${zone.name} imports only what lies in ${zone.folder}, not ${target}`
}

function checkDeclared(
  path: string,
  { specifier }: Import,
  manifests: readonly Manifest[],
): string | undefined {
  if (isRelative(specifier) || isBuiltin(specifier) || specifier.includes('virtual:')) return undefined
  const owner = ownerOf(path, manifests)
  const name = packageOf(specifier)
  if (owner === undefined || name === owner.name) return undefined
  // The root's scripts and tests see every workspace.
  if (owner.folder === '' && name.startsWith(scope)) return undefined
  if (owner.dependencies.has(name)) return undefined
  if (isTest(path) || isBuildTool(path)) {
    const root = manifests.find(manifest => manifest.folder === '')
    if (owner.devDependencies.has(name) || root?.devDependencies.has(name)) return undefined
  }
  // Only types: they are erased, so a development dependency is enough.
  if (owner.devDependencies.has(`@types/${name}`)) return undefined
  if (path.startsWith('desktop/renderer/') && owner.devDependencies.has(name)) return undefined
  return `${name} is not among the dependencies in ${posix.join(owner.folder, 'package.json')}`
}

function checkIsomorphic(file: ScannedFile): Problem[] {
  const zone = zoneOf(file.path)
  if (zone === undefined || isTest(file.path)) return []
  const browser = zone.isomorphic === true || zone.folder === 'desktop/renderer/'
  const problems: Problem[] = []
  for (const { specifier, line } of file.imports) {
    if (browser && isBuiltin(specifier)) {
      problems.push({
        path: file.path,
        line,
        message: `${zone.name} runs in a browser too and has no ${specifier}`,
      })
    }
  }
  if (zone.isomorphic !== true) return problems
  for (const { name, line } of file.platformGlobals) {
    problems.push({
      path: file.path,
      line,
      message: `${zone.name} runs in Node and in browsers and may not read ${name}`,
    })
  }
  return problems
}

/** Follows relative imports, so that a forbidden package cannot come in through a neighbour. */
function checkReach(file: ScannedFile, byPath: ReadonlyMap<string, ScannedFile>): Problem[] {
  const zone = zoneOf(file.path)
  if (zone?.never === undefined || isTest(file.path)) return []
  const problems: Problem[] = []
  for (const found of file.imports) {
    const seen = new Set<string>()
    const reaches = (from: string, specifier: string): string | undefined => {
      if (!isRelative(specifier))
        return zone.never?.includes(packageOf(specifier)) ? packageOf(specifier) : undefined
      const target = resolveRelative(from, specifier)
      if (seen.has(target)) return undefined
      seen.add(target)
      for (const next of byPath.get(target)?.imports ?? []) {
        const reached = reaches(target, next.specifier)
        if (reached !== undefined) return reached
      }
      return undefined
    }
    const reached = reaches(file.path, found.specifier)
    if (reached !== undefined) {
      problems.push({
        path: file.path,
        line: found.line,
        message: `${zone.name} holds no ${reached}, and this brings it in`,
      })
    }
  }
  return problems
}

const zoneOf = (path: string) => zones.find(zone => path.startsWith(zone.folder)) ?? testZoneOf(path)
const testZoneOf = (path: string) => zones.find(zone => zone.folder.split('/')[0] === path.split('/')[0])
const isTest = (path: string) => /^(?:[^/]+\/)?(?:test|bench)\//.test(path) || /^scripts\//.test(path)
const isBuildTool = (path: string) => /(?:^|\/)(?:[^/]+\.config|build)\.ts$/.test(path)
const isRelative = (specifier: string) => specifier.startsWith('.') || specifier.startsWith('/')
const isBuiltin = (specifier: string) =>
  specifier.startsWith('node:') || builtins.has(specifier.split('/')[0]!)
const packageFolder = (path: string) =>
  path.includes('/') && !/^(?:scripts|test|bench)\//.test(path) ? path.split('/')[0]! : ''
const resolveRelative = (path: string, specifier: string) =>
  posix.join(posix.dirname(path), specifier.replace(/\?.*$/, ''))

function packageOf(specifier: string): string {
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]!
}

function ownerOf(path: string, manifests: readonly Manifest[]): Manifest | undefined {
  const folder = packageFolder(path)
  return manifests.find(manifest => manifest.folder === folder)
}
