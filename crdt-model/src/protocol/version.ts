/**
 * The protocol's version. Bump it with every change of the wire; `test/protocol` keeps a hash of all schemas and fails when
 * the wire changed and this did not. A server answers a client of an older version as long as it is >= MIN_PROTOCOL_VERSION.
 */
export const PROTOCOL_VERSION = 1
export const MIN_PROTOCOL_VERSION = 1

/** Request headers. */
export const HEADER = {
  /** The client's PROTOCOL_VERSION. Absent: taken as current (curl, browsers). */
  protocol: 'x-pluto-protocol',
  /** The device's id (UUID v7): bound to the user who shows it first. Required where changes are written. */
  device: 'x-pluto-device',
  /** Set by the server on every answer; named by support and by internal errors. */
  requestId: 'x-request-id',
} as const

export const CBOR_SEQUENCE = 'application/cbor-seq'
