import { type Dirent, promises as fs } from 'node:fs'
import path from 'node:path'
import type { PipelineDefinition, SourceDefinition } from '@pluto-duck/crdt-model'
import { checkOptions, runnerOptions } from './options.ts'

export interface SourceFile {
  /** Absolute, symbolic links resolved: what is opened, granted and allowed is the same path. */
  readonly path: string
  /** Below the source's root, with `/`; which orders the files. */
  readonly relative: string
  readonly size: number
}

export interface ResolvedSource {
  readonly state: 'ready'
  readonly name: string
  readonly definition: SourceDefinition
  readonly files: readonly SourceFile[]
}

export interface UnresolvedSource {
  readonly state: 'failed'
  readonly name: string
  readonly definition: SourceDefinition
  readonly reason: 'missing' | 'option' | 'unreadable' | 'outside' | 'unsupported'
  readonly message: string
  readonly hint: string
}

/** What the runner's `source.<name>` view reads: literal paths, which are also all that it may open. */
export const toPlanSource = (source: ResolvedSource) => ({
  name: source.name,
  kind: source.definition.kind,
  paths: source.files.map(file => file.path),
  options: runnerOptions(source.definition.options),
})

export type SourceResolution = ResolvedSource | UnresolvedSource

export interface ResolveOptions {
  /** This machine's files folder of the workspace; relative paths start here and may not leave it. */
  readonly filesDir: string
}

const EXTENSIONS: Record<SourceDefinition['kind'], RegExp> = {
  csv: /\.(?:csv|tsv)(?:\.gz|\.zst)?$/i,
  parquet: /\.(?:parquet|pq)$/i,
  json: /\.(?:json|jsonl|ndjson)(?:\.gz|\.zst)?$/i,
}

/** Every source of a pipeline on this machine, by name. A source that cannot be read is a value, not an error. */
export async function resolveSources(
  definition: Pick<PipelineDefinition, 'sources'>,
  options: ResolveOptions,
): Promise<Record<string, SourceResolution>> {
  const entries = Object.entries(definition.sources)
  const resolved = await Promise.all(entries.map(([name, source]) => resolveSource(name, source, options)))
  return Object.fromEntries(resolved.map(source => [source.name, source]))
}

export async function resolveSource(
  name: string,
  definition: SourceDefinition,
  { filesDir }: ResolveOptions,
): Promise<SourceResolution> {
  const failed = (reason: UnresolvedSource['reason'], message: string, hint: string): UnresolvedSource => ({
    state: 'failed',
    name,
    definition,
    reason,
    message,
    hint,
  })
  const [option] = checkOptions(definition.kind, definition.options)
  if (option) {
    return failed(
      'option',
      `The option ${option.option} of source.${name} ${option.reason}.`,
      'See docs/formats.md for the options.',
    )
  }
  const given = definition.path
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(given)) {
    return failed(
      'unsupported',
      `source.${name} names an address, and only files of this machine can be read.`,
      'Put the file into the files folder.',
    )
  }
  if (given.includes('\0'))
    return failed('missing', `source.${name} has a path that no file can have.`, 'Mend the path.')
  const absolute = path.resolve(filesDir, given)
  if (!path.isAbsolute(given) && !isInside(filesDir, absolute)) {
    return failed(
      'outside',
      `source.${name} leaves the files folder with "..": ${given}`,
      'Name the file by its absolute path, or put it into the files folder.',
    )
  }
  try {
    const files = await filesAt(absolute, definition.kind)
    if (files.length === 0) {
      return failed(
        'missing',
        `source.${name} finds no file: ${absolute}`,
        'Put the file there, or mend the path of the source.',
      )
    }
    return { state: 'ready', name, definition, files }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      return failed(
        'missing',
        `source.${name} names a file that is not there: ${absolute}`,
        'Put the file there, or mend the path of the source.',
      )
    }
    return failed(
      'unreadable',
      `source.${name} cannot be read (${code || 'unknown cause'}): ${absolute}`,
      'Check the permissions of the file and its folder.',
    )
  }
}

const isInside = (folder: string, file: string): boolean => {
  const relative = path.relative(path.resolve(folder), file)
  return relative === '' || (!relative.startsWith('..') && !path.isAbsolute(relative))
}

/** Sorted by relative path, so that the order of rows does not depend on the file system. */
async function filesAt(absolute: string, kind: SourceDefinition['kind']): Promise<SourceFile[]> {
  const found = new Map<string, string>()
  const stat = await fs.stat(absolute).catch(error => {
    if (isGlob(absolute) && error.code === 'ENOENT') return null
    throw error
  })
  if (stat === null) {
    const root = globRoot(absolute)
    for await (const match of fs.glob(path.relative(root, absolute), { cwd: root })) {
      const file = path.join(root, match)
      if (!isHidden(match) && (await fs.stat(file)).isFile()) found.set(match.split(path.sep).join('/'), file)
    }
  } else if (stat.isDirectory()) {
    const entries: Dirent[] = await fs.readdir(absolute, { recursive: true, withFileTypes: true })
    for (const entry of entries) {
      const file = path.join(entry.parentPath, entry.name)
      const relative = path.relative(absolute, file)
      if (!EXTENSIONS[kind].test(entry.name) || isHidden(relative)) continue
      if ((await fs.stat(file)).isFile()) found.set(relative.split(path.sep).join('/'), file)
    }
  } else {
    found.set(path.basename(absolute), absolute)
  }
  const files: SourceFile[] = []
  for (const relative of [...found.keys()].sort()) {
    const real = await fs.realpath(found.get(relative)!)
    await fs.access(real, fs.constants.R_OK)
    files.push({ path: real, relative, size: (await fs.stat(real)).size })
  }
  return files
}

const isHidden = (relative: string): boolean => relative.split(path.sep).some(part => part.startsWith('.'))
const isGlob = (text: string): boolean => /[*?[{]/.test(text)

/** The folder above the first part that holds a wildcard. */
function globRoot(absolute: string): string {
  const parts = absolute.split(path.sep)
  const fixed = parts.slice(0, parts.findIndex(isGlob))
  return fixed.join(path.sep) || path.parse(absolute).root
}
