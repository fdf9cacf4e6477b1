import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'

/** Writes path -> text below a folder, made when it is not there. */
export const writeFiles = async (folder: string, files: Readonly<Record<string, string>>): Promise<void> => {
  for (const [path, text] of Object.entries(files)) {
    const file = join(resolve(folder), path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
}
