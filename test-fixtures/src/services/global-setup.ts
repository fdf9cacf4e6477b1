import { brokerVariable, ServiceBroker } from './broker.ts'

// Vitest calls a global setup once for each project that has tests to run; they share one broker, and the last one out closes it.
interface Shared {
  broker: Promise<ServiceBroker>
  users: number
}
const place = globalThis as { plutoTestServices?: Shared }

export default async function setup(): Promise<() => Promise<void>> {
  place.plutoTestServices ??= { broker: ServiceBroker.open(), users: 0 }
  const shared = place.plutoTestServices
  shared.users++
  process.env[brokerVariable] = (await shared.broker).url
  return async () => {
    shared.users--
    if (shared.users > 0) return
    delete place.plutoTestServices
    delete process.env[brokerVariable]
    await (await shared.broker).close()
  }
}
