import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A TCP proxy that says how much went through: to it and back from it. */
export interface CountingProxy {
  readonly url: string
  /** Bytes in both directions so far. */
  bytes(): number
  close(): Promise<void>
}

/** Passes everything on to the address that `target` gives at that moment. */
export const countingProxy = async (target: () => string): Promise<CountingProxy> => {
  let bytes = 0
  const open = new Set<Socket>()
  const server = createServer(near => {
    const { hostname, port } = new URL(target())
    const far = connect(Number(port), hostname)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from)
      from.on('data', chunk => {
        bytes += chunk.length
      })
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => open.delete(from))
    }
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: () => bytes,
    close: () =>
      new Promise(done => {
        server.close(() => done())
        for (const socket of open) socket.destroy()
      }),
  }
}
