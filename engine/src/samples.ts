import { promises as fs } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const SAMPLES = fileURLToPath(new URL('../samples/', import.meta.url))

/** Real data that ships with vega-datasets, by its name in the files folder. */
const DATA = { 'samples/weather.csv': 'weather.csv' } as const

export interface Sample {
  readonly name: string
  /** The pipeline's folder, relative path -> text, as import takes it. */
  readonly files: Readonly<Record<string, string>>
}

/**
 * Puts the sample's data into a workspace's files folder and gives back its pipeline, ready to import. Doing it again writes
 * the same files again.
 */
export async function installSample({ filesDir }: { readonly filesDir: string }): Promise<Sample> {
  const packageDir = path.dirname(path.dirname(createRequire(import.meta.url).resolve('vega-datasets')))
  for (const [target, data] of Object.entries(DATA)) {
    const file = path.join(filesDir, target)
    await fs.mkdir(path.dirname(file), { recursive: true })
    await fs.copyFile(path.join(packageDir, 'data', data), file)
  }
  const name = 'city-weather'
  const folder = path.join(SAMPLES, name)
  const names = (await fs.readdir(folder)).sort()
  const texts = await Promise.all(names.map(file => fs.readFile(path.join(folder, file), 'utf8')))
  return { name, files: Object.fromEntries(names.map((file, index) => [file, texts[index]!])) }
}
