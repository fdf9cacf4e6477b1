import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import type { InputOf, MethodName, OutputOf, TopicEvent, TopicName } from '@pluto-duck/engine/contract'
import type { World } from './scenes.ts'

/** What some methods of the contract answer. */
export type Handlers = { [M in MethodName]?: (input: InputOf<M>) => OutputOf<M> | Promise<OutputOf<M>> }

/** What every part of the host in memory knows. */
export interface Memory {
  readonly world: World
  readonly definition: (pipelineId: string) => PipelineDefinition
  readonly tell: <T extends TopicName>(topic: T, event: TopicEvent<T>) => void
}

export const HASH = 'a'.repeat(64)
export const ME = { user_id: 'u1', name: 'Ada Lovelace' }
export const BO = { user_id: 'u2', name: '김보라' }
const T0 = Date.parse('2026-03-02T08:00:00Z')
export const time = (after: number): string => new Date(T0 + after).toISOString()
export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
