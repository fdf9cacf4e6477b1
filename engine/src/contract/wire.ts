/** What the contract shares with the server's wire: the same words for the same things. */
export { pipelineName } from '@pluto-duck/crdt-model'
export {
  artifact,
  author,
  hash,
  id,
  timestamp,
  userId,
  version,
  versionSummary,
} from '@pluto-duck/crdt-model/protocol'
