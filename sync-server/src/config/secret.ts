import { randomBytes } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@pluto-duck/crdt-model/errors'

/**
 * A secret kept in a file (mode 0600) of the data folder, made at the first call. Two processes that make it at the same
 * time get the same one, and a crash leaves either none or a whole one.
 */
export const keepSecret = async (dataDir: string, name: string): Promise<string> => {
  const path = join(dataDir, name)
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  try {
    const kept = await readIfThere(path)
    if (kept !== null) return kept
    await mkdir(dataDir, { recursive: true })
    await writeFile(temporary, randomBytes(32).toString('hex'), { mode: 0o600, flush: true })
    try {
      await link(temporary, path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      await rm(temporary, { force: true })
    }
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw new AppError('config.invalid', `DATA_DIR ${dataDir} cannot be read and written.`, {
      hint: 'Set DATA_DIR to a folder that this user may write to.',
      details: { setting: 'DATA_DIR' },
      cause,
    })
  }
}

const readIfThere = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
