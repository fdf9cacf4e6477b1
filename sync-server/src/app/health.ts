import { AppError } from '@pluto-duck/crdt-model/errors'
import { PROTOCOL_VERSION, ROUTES, serviceRoutes } from '@pluto-duck/crdt-model/protocol'
import packageJson from '../../package.json' with { type: 'json' }
import { type Feature, implement } from './implement.ts'
import { openApi } from './openapi.ts'

/** What `/readyz` asks, by the name that it answers with when it fails. */
export type Probes = Readonly<Record<string, () => Promise<void>>>

const PROBE_TIMEOUT_MS = 5_000

export const healthFeature = (publicUrl: string, probes: Probes): Feature => {
  const document = openApi(ROUTES, publicUrl)
  return {
    implementations: [
      implement(serviceRoutes.health, async () => ({ ok: true as const })),
      implement(serviceRoutes.ready, async () => {
        const failed = await Promise.all(
          Object.entries(probes).map(async ([name, probe]) => ((await answers(probe)) ? [] : [name])),
        )
        const down = failed.flat()
        if (down.length > 0) {
          throw new AppError('service.unavailable', `Not ready: ${down.join(' and ')}.`, {
            details: { down },
          })
        }
        return { ok: true as const, protocol: PROTOCOL_VERSION, version: packageJson.version }
      }),
      implement(serviceRoutes.openapi, async () => document),
    ],
  }
}

const answers = async (probe: () => Promise<void>): Promise<boolean> => {
  const { promise: late, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => resolve(false), PROBE_TIMEOUT_MS)
  try {
    return await Promise.race([probe().then(() => true), late])
  } catch {
    // What failed is what is asked for here; each service logs its own trouble.
    return false
  } finally {
    clearTimeout(timer)
  }
}
