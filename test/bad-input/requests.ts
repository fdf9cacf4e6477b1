import type { ErrorCode } from '@pluto-duck/crdt-model/errors'
import { call, type Reply, type Sending } from '../harness/calls.ts'
import { ann, hers, url } from './places.ts'

export type Send = () => Promise<Reply>
export type Case = readonly [name: string, code: ErrorCode, send: Send]

export const get = (path: string, sending: Sending = {}): Send => by('GET', path, sending)
export const by =
  (method: string, path: string, sending: Sending = {}): Send =>
  () =>
    call(url, method, path, { as: ann, device: hers.device, ...sending })
/** A POST of JSON by the owner; the body is made when it is sent, because ids are not known earlier. */
export const post =
  (path: () => string, json: () => unknown, sending: Sending = {}): Send =>
  () =>
    call(url, 'POST', path(), { as: ann, device: hers.device, json: json(), ...sending })
export const patch =
  (path: () => string, json: () => unknown): Send =>
  () =>
    call(url, 'PATCH', path(), { as: ann, device: hers.device, json: json() })
export const at =
  (method: string, path: () => string, sending: () => Sending = () => ({})): Send =>
  () =>
    call(url, method, path(), { as: ann, device: hers.device, ...sending() })
