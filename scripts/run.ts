import { spawn } from 'node:child_process'

export interface RunOptions {
  readonly cwd: string
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
}

/** Runs a command with this process's output and without input. Answers its exit code; 1 when a signal ended it. */
export function run(command: readonly [string, ...string[]], options: RunOptions): Promise<number> {
  const [file, ...args] = command
  return new Promise((done, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', ...options.env },
    })
    child.once('error', reject)
    child.once('close', code => done(code ?? 1))
  })
}
