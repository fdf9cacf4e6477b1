import { createRequire } from 'node:module'
import { openHost } from '../host/host.ts'
import { dataFolder, readHostFile } from '../state/index.ts'
import { addServeCommand } from './commands/serve.ts'
import type { Context } from './context.ts'
import { processOutput } from './output.ts'
import { runProgram, wantsJson } from './program.ts'
import { connectHttp, connectLocal, type Session } from './session.ts'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

/**
 * The command line. A host that owns the data folder already (the app, or `pluto serve`) is asked over loopback; without one
 * the command opens the folder itself for as long as it runs.
 */
export const main = async (argv: readonly string[]): Promise<number> => {
  const folder = dataFolder()
  let opened: Promise<Session> | undefined
  const context: Context = {
    output: processOutput(wantsJson(argv)),
    session: () => {
      opened ??= openSession(folder)
      return opened
    },
  }
  try {
    return await runProgram(argv, context, { version }, program => addServeCommand(program, context, folder))
  } finally {
    // A session that failed to open has been reported by the command that asked for it.
    const session = await opened?.catch(() => undefined)
    await session?.close()
  }
}

const openSession = async (folder: string): Promise<Session> => {
  const running = readHostFile(folder)
  if (running?.port && running.token) return connectHttp(`http://127.0.0.1:${running.port}`, running.token)
  const host = await openHost({ folder, server: process.env.PLUTO_SERVER ?? null })
  return connectLocal(host)
}
