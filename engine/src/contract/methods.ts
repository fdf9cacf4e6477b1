import type { z } from 'zod'
import { accountMethods } from './account.ts'
import { documentMethods } from './documents.ts'
import { draftMethods } from './drafts.ts'
import { machineMethods } from './machine.ts'
import { memberMethods } from './members.ts'
import { pipelineMethods } from './pipelines.ts'
import { runMethods } from './runs.ts'
import { versionMethods } from './versions.ts'

/** Every method that a UI or the CLI may call on the host. */
export const METHODS = {
  ...accountMethods,
  ...memberMethods,
  ...documentMethods,
  ...pipelineMethods,
  ...runMethods,
  ...versionMethods,
  ...draftMethods,
  ...machineMethods,
} as const

export type Methods = typeof METHODS
export type MethodName = keyof Methods
export type InputOf<M extends MethodName> = z.input<Methods[M]['input']>
export type ParsedInputOf<M extends MethodName> = z.output<Methods[M]['input']>
export type OutputOf<M extends MethodName> = z.output<Methods[M]['output']>
