import { resolve, sep } from 'node:path'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import type { SourceResolution } from '../sources/resolve-sources.ts'

/** One thing that a pipeline wants to touch. The target is literal: a file, a folder, a pattern, or what would be sent. */
export interface Wanted {
  readonly kind: 'read' | 'publish'
  readonly target: string
  readonly why: string
  /** The source that reads it; null for what is published. */
  readonly source: string | null
}

/**
 * Everything that a pipeline would touch on this machine: what its sources name, resolved to an absolute path, and each file that
 * a link leads to elsewhere; and, when its workspace is on a server, what would be sent there.
 */
export function wantedBy(
  definition: Pick<PipelineDefinition, 'sources' | 'publish'>,
  sources: Readonly<Record<string, SourceResolution>>,
  place: { readonly filesDir: string; readonly remote: boolean },
): Wanted[] {
  const wanted: Wanted[] = []
  for (const [name, source] of Object.entries(definition.sources)) {
    const root = resolve(place.filesDir, source.path)
    const why = `source.${name} reads it.`
    wanted.push({ kind: 'read', target: root, why, source: name })
    const resolved = sources[name]
    if (resolved?.state !== 'ready') continue
    for (const file of resolved.files) {
      if (!isBelow(file.path, fixedPart(root)))
        wanted.push({
          kind: 'read',
          target: file.path,
          why: `A link of source.${name} leads to it.`,
          source: name,
        })
    }
  }
  if (place.remote) wanted.push(...publishedBy(definition.publish))
  return wanted
}

function publishedBy({ report, snapshots }: PipelineDefinition['publish']): Wanted[] {
  const targets = snapshots
    .filter(({ columns }) => columns.length > 0)
    .map(snapshot => ({
      target: snapshotTarget(snapshot),
      why: 'These columns would be sent to the server after each run.',
    }))
  const all = report
    ? [{ target: 'report', why: 'The report would be sent to the server after each run.' }, ...targets]
    : targets
  return all.map(one => ({ kind: 'publish', ...one, source: null }))
}

/** Names exactly what leaves, so that any other columns or limit are another target, which has to be allowed anew. */
export const snapshotTarget = (snapshot: PipelineDefinition['publish']['snapshots'][number]): string =>
  `snapshot of ${snapshot.step}: ${[...snapshot.columns].sort().join(', ')} (at most ${snapshot.max_rows} rows)`

const isBelow = (file: string, folder: string): boolean =>
  file === folder || file.startsWith(folder.endsWith(sep) ? folder : folder + sep)

/** The folder above the first part of a pattern that holds a wildcard; the whole path when there is none. */
function fixedPart(root: string): string {
  const parts = root.split(sep)
  const wild = parts.findIndex(part => /[*?[{]/.test(part))
  return wild < 0 ? root : parts.slice(0, wild).join(sep) || sep
}
