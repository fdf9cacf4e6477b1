import { z } from 'zod'
import { route } from './route.ts'

export const serviceRoutes = {
  health: route({
    id: 'service.health',
    method: 'GET',
    path: '/healthz',
    summary: 'The process answers',
    access: 'public',
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
  ready: route({
    id: 'service.ready',
    method: 'GET',
    path: '/readyz',
    summary: 'Database and storage answer; 503 names what does not',
    access: 'public',
    reply: z.strictObject({ ok: z.literal(true), protocol: z.number().int(), version: z.string() }),
  }),
  openapi: route({
    id: 'service.openapi',
    method: 'GET',
    path: '/v1/openapi.json',
    summary: 'This API as OpenAPI 3.1',
    access: 'public',
    reply: z.record(z.string(), z.unknown()),
  }),
} as const
