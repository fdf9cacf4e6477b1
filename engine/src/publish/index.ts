export type { PublishRequest, PublishState } from './machine.ts'
export { Marks } from './marks.ts'
export { Publisher, type PublisherParts } from './publisher.ts'
