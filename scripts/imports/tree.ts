import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { Manifest } from './rules.ts'
import { type ScannedFile, scanFile } from './scan.ts'

const names = z.record(z.string(), z.string()).default({})
const packageJson = z.object({
  name: z.string(),
  workspaces: z.array(z.string()).default([]),
  dependencies: names,
  optionalDependencies: names,
  devDependencies: names,
})

/** Every source file that git knows or would take, and every package's declarations. */
export function readTree(root: string): { files: ScannedFile[]; manifests: Manifest[] } {
  const listed = execFileSync(
    'git',
    ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts', '*.svelte', '*.css'],
    { cwd: root, encoding: 'utf8' },
  )
  const paths = listed.split('\n').filter(path => path !== '' && existsSync(join(root, path)))
  const rootJson = readPackage(root, '')
  return {
    files: paths.map(path => scanFile(root, path)),
    manifests: [rootJson.manifest, ...rootJson.workspaces.map(folder => readPackage(root, folder).manifest)],
  }
}

function readPackage(root: string, folder: string): { manifest: Manifest; workspaces: string[] } {
  const json = packageJson.parse(JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')))
  return {
    manifest: {
      folder,
      name: json.name,
      dependencies: new Set([...Object.keys(json.dependencies), ...Object.keys(json.optionalDependencies)]),
      devDependencies: new Set(Object.keys(json.devDependencies)),
    },
    workspaces: json.workspaces,
  }
}
