import { AppError } from '@pluto-duck/crdt-model/errors'
import { serviceRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Config } from '../config/index.ts'
import { type Check, ok, reasonOf, warning, wrong } from './check.ts'

const TIMEOUT_MS = 10_000

/** The server as people's machines meet it. */
export async function* addressChecks(config: Config): AsyncGenerator<Check> {
  if (config.publicUrl === null && config.port === 0) {
    yield warning(
      'address',
      'The server takes any free port, so its address is not known.',
      'Set PORT or PUBLIC_URL.',
    )
    return
  }
  const address = new URL(config.publicUrl ?? `http://localhost:${config.port}`)
  yield await answerCheck(address)
  const local = /^(localhost|127\..*|\[::1\])$/.test(address.hostname)
  if (address.protocol === 'http:' && !local)
    yield wrong(
      'address.tls',
      `${address.origin} is not encrypted: passwords and edits can be read on the way.`,
      'Put a TLS proxy in front and set PUBLIC_URL to its https address.',
    )
  if (address.protocol === 'https:' && config.trustProxy === false)
    yield warning(
      'address.proxy',
      'Something in front ends TLS, and TRUST_PROXY is false: everybody counts as the proxy in rate limits and audit.',
      'Set TRUST_PROXY to the number of proxies in front, usually 1.',
    )
  const endpoint = config.s3?.publicEndpoint
  if (address.protocol === 'https:' && endpoint?.startsWith('http:'))
    yield warning(
      'address.storage',
      `Artifacts travel unencrypted to ${endpoint}.`,
      'Set S3_PUBLIC_ENDPOINT to an https address.',
    )
}

const answerCheck = async (address: URL): Promise<Check> => {
  const name = 'address'
  const { origin } = address
  let response: Response
  try {
    response = await fetch(new URL(serviceRoutes.ready.path, address), {
      redirect: 'manual',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch (error) {
    return wrong(
      name,
      `Nothing answers at ${origin} (${reasonOf(error)}).`,
      'Start the server; if it runs, look at PUBLIC_URL, its name in DNS, the certificate and the proxy.',
    )
  }
  if (response.status >= 300 && response.status < 400)
    return wrong(
      name,
      `${origin} sends on to ${response.headers.get('location')}.`,
      'Set PUBLIC_URL to the address where people end up.',
    )
  const body: unknown = await response.json().catch(() => null)
  const ready = serviceRoutes.ready.reply.safeParse(body)
  if (response.ok && ready.success) return ok(name, `The server ${ready.data.version} answers at ${origin}.`)
  const { code, message } = AppError.fromBody(body)
  return code === 'service.unavailable'
    ? wrong(name, `The server answers at ${origin}: ${message}`, 'Mend what it names; its log says more.')
    : wrong(
        name,
        `Something else answers at ${origin} (${response.status}).`,
        'Let the proxy pass every path of that name to the server.',
      )
}
