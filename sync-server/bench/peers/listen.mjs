import { createServer } from 'node:http'

/** An HTTP server that hands its upgrades to these sockets; answers its port. */
export function listen(sockets) {
  const http = createServer()
  http.on('upgrade', (request, socket, head) =>
    sockets.handleUpgrade(request, socket, head, opened => sockets.emit('connection', opened, request)),
  )
  return new Promise(resolve => http.listen(0, '127.0.0.1', () => resolve(http.address().port)))
}
