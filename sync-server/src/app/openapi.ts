import { CODES } from '@pluto-duck/crdt-model/errors'
import { CBOR_SEQUENCE, PERMISSIONS, PROTOCOL_VERSION, type Route } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'

type Schema = Record<string, unknown>

const schemaOf = (value: z.ZodType, io: 'input' | 'output'): Schema => {
  const { $schema: _, ...schema } = z.toJSONSchema(value, { io, unrepresentable: 'any' })
  return schema
}

const parameters = (schema: z.ZodObject | undefined, where: 'path' | 'query'): Schema[] => {
  if (!schema) return []
  const { properties = {}, required = [] } = schemaOf(schema, 'input') as {
    properties?: Record<string, Schema>
    required?: string[]
  }
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: where,
    required: where === 'path' || required.includes(name),
    schema: property,
  }))
}

const content = (reply: Route['reply']): Schema => {
  if (reply === 'cbor') return { [CBOR_SEQUENCE]: { schema: { type: 'string', format: 'binary' } } }
  if (reply === 'sse') return { 'text/event-stream': { schema: { type: 'string' } } }
  if (reply === 'text') return { 'text/plain': { schema: { type: 'string' } } }
  return { 'application/json': { schema: schemaOf(reply, 'output') } }
}

const roles = (access: Route['access']): string => {
  if (access === 'public') return 'Needs no session.'
  if (access === 'session') return 'Needs a session.'
  return `Needs the permission \`${access}\`: ${PERMISSIONS[access].join(', ')}.`
}

const operation = (route: Route): Schema => {
  const answer = (description: string): Schema => ({ description, content: content(route.reply) })
  return {
    operationId: route.id,
    summary: route.summary,
    description: roles(route.access),
    tags: [route.id.split('.')[0]],
    security: route.access === 'public' ? [] : [{ bearer: [] }, { cookie: [] }],
    parameters: [...parameters(route.params, 'path'), ...parameters(route.query, 'query')],
    ...(route.body === undefined
      ? {}
      : {
          requestBody: {
            required: true,
            content:
              route.body === 'cbor'
                ? { [CBOR_SEQUENCE]: { schema: { type: 'string', format: 'binary' } } }
                : { 'application/json': { schema: schemaOf(route.body, 'input') } },
          },
        }),
    responses: {
      200: answer(route.creates ? 'The same thing was there already.' : 'Done.'),
      ...(route.creates ? { 201: answer('Something new was made.') } : {}),
      ...(route.etag ? { 304: { description: 'Not changed since the ETag.' } } : {}),
      default: { $ref: '#/components/responses/error' },
    },
  }
}

/** The API as OpenAPI 3.1, made of the same routes that are mounted. */
export const openApi = (routes: readonly Route[], publicUrl: string): Schema => {
  const paths: Record<string, Record<string, Schema>> = {}
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Pluto Duck',
      version: String(PROTOCOL_VERSION),
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: publicUrl }],
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        cookie: { type: 'apiKey', in: 'cookie', name: 'pluto.session_token' },
      },
      responses: {
        error: {
          description: 'A typed error',
          content: {
            'application/json': {
              schema: {
                type: 'object',
                required: ['code', 'message', 'hint'],
                properties: {
                  code: { type: 'string', enum: Object.keys(CODES) },
                  message: { type: 'string' },
                  hint: { type: 'string' },
                  details: { type: 'object' },
                  request_id: { type: 'string' },
                },
              },
            },
          },
        },
      },
    },
  }
}
