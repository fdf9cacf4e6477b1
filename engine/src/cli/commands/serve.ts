import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Command } from 'commander'
import { z } from 'zod'
import { openHost } from '../../host/host.ts'
import { serveHost } from '../../host/http.ts'
import type { Context } from '../context.ts'

/** The app's built page, beside this package in the repository and in an installation. */
const RENDERER = resolve(import.meta.dirname, '..', '..', '..', '..', 'desktop', 'dist', 'renderer')

export const addServeCommand = (program: Command, context: Context, folder: string): void => {
  program
    .command('serve')
    .description(
      'serve the app on this machine (127.0.0.1 only), sync in the background and run what is scheduled',
    )
    .option('--port <n>', 'port; default any free one', '0')
    .option(
      '--connect-stdin',
      'read {"server", "token"} as one line of JSON from standard input, for a program that embeds this',
    )
    .action(async (options: { port: string; connectStdin?: boolean }) => {
      const port = Number(options.port)
      if (!Number.isInteger(port) || port < 0 || port > 65_535) {
        throw new AppError('usage.invalid', `--port ${options.port}: give a number from 0 to 65535.`)
      }
      const given = options.connectStdin ? await readConnection() : {}
      const host = await openHost({ folder, server: process.env.PLUTO_SERVER ?? null, ...given })
      const stopped = Promise.withResolvers<void>()
      process.once('SIGINT', () => stopped.resolve())
      process.once('SIGTERM', () => stopped.resolve())
      if (options.connectStdin) {
        // The program that embeds this one is gone, however it went.
        process.stdin.once('end', () => stopped.resolve())
        process.stdin.resume()
      }
      const built = existsSync(join(RENDERER, 'index.html'))
      if (!built)
        context.output.err('The app’s page is not built: `npm run build`. Commands work without it.')
      try {
        const token = randomBytes(32).toString('base64url')
        const served = await serveHost({
          handlers: host.handlers,
          bus: host.bus,
          log: host.log,
          token,
          port,
          ...(built ? { staticDir: RENDERER } : {}),
        }).catch((cause: NodeJS.ErrnoException) => {
          if (cause.code !== 'EADDRINUSE') throw cause
          throw new AppError('config.invalid', `Port ${port} is taken.`, {
            hint: 'Choose another --port.',
            cause,
          })
        })
        host.announce({ port: served.port, token })
        host.startBackground()
        context.output.out(
          context.output.json ? JSON.stringify({ ready: served.url }) : `ready ${served.url}`,
        )
        await stopped.promise
        await served.close()
      } finally {
        await host.close()
      }
    })
}

const NO_CONNECTION = 'Standard input did not begin with {"server", "token"} as one line of JSON.'
const connection = z.strictObject({ server: z.url(), token: z.string().min(1) })

/** One line from the program that started this one: it need not wait for its server before it starts us. */
const readConnection = async (): Promise<z.infer<typeof connection>> => {
  const lines = createInterface({ input: process.stdin })
  for await (const line of lines) {
    lines.close()
    try {
      return connection.parse(JSON.parse(line))
    } catch (cause) {
      throw new AppError('usage.invalid', NO_CONNECTION, { cause })
    }
  }
  throw new AppError('usage.invalid', NO_CONNECTION)
}
