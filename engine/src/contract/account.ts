import { z } from 'zod'
import { done, none } from './inputs.ts'
import { method } from './method.ts'
import { syncState, workspaceEntry } from './state.ts'
import { id, timestamp } from './wire.ts'

const serverAddress = z.url({ protocol: /^https?$/ })

/** The installation, who is signed in, their workspaces and how they sync. */
export const accountMethods = {
  'app.info': method({
    summary: 'What this installation is and where it keeps things',
    input: none,
    output: z.strictObject({
      version: z.string(),
      duckdb: z.string(),
      data_dir: z.string(),
      device_id: id,
      server: z.string().nullable(),
      user: z.strictObject({ id: z.string(), name: z.string(), email: z.string() }).nullable(),
    }),
  }),
  'app.connect': method({
    summary: 'Name the server to sync with',
    input: z.strictObject({ server: serverAddress }),
    output: done,
  }),
  'auth.start': method({
    summary: 'Begin signing in: open the address, enter the code',
    input: z.strictObject({ server: serverAddress.optional() }),
    output: z.strictObject({
      verification_url: z.string(),
      user_code: z.string(),
      device_code: z.string(),
      interval_s: z.number(),
      expires_at: timestamp,
    }),
  }),
  'auth.poll': method({
    summary: 'Whether the sign-in was approved',
    input: z.strictObject({ device_code: z.string() }),
    output: z.discriminatedUnion('state', [
      z.strictObject({ state: z.literal('pending'), interval_s: z.number() }),
      z.strictObject({ state: z.literal('signed_in') }),
      z.strictObject({ state: z.literal('denied') }),
      z.strictObject({ state: z.literal('expired') }),
    ]),
  }),
  'auth.sign_out': method({ summary: 'Sign out and erase the token', input: none, output: done }),

  'workspace.list': method({
    summary: 'Your workspaces',
    input: none,
    output: z.strictObject({ workspaces: z.array(workspaceEntry) }),
  }),
  'workspace.select': method({
    summary: 'Open a workspace',
    input: z.strictObject({ workspace_id: id }),
    output: done,
  }),
  'workspace.create': method({
    summary: 'Make a workspace',
    input: z.strictObject({ workspace_id: id, name: z.string().min(1).max(100) }),
    output: workspaceEntry,
  }),

  'sync.state': method({ summary: 'The sync state', input: none, output: syncState }),
  'sync.now': method({ summary: 'Sync now and wait for the outcome', input: none, output: syncState }),
  'sync.repair': method({
    summary: 'Read every document on this machine, and fetch anew what cannot be read',
    input: none,
    output: z.strictObject({
      state: syncState,
      documents: z.number().int(),
      /** Names of those that could not be read. */
      unreadable: z.array(z.string()),
      /** Names of those that still cannot: unsent work is in them, or the server does not answer. */
      left: z.array(z.string()),
    }),
  }),
  'sync.pause': method({
    summary: 'Work offline on purpose, or go online again',
    input: z.strictObject({ paused: z.boolean() }),
    output: syncState,
  }),
} as const
