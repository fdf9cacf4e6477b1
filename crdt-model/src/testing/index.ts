export { anyDefinition, anyHeldJson, anyText } from './arbitraries.ts'
export { anActor, aPipeline } from './builders.ts'
export { anyDeeds, type Deed, offlineRecords, playDeeds } from './replicas.ts'
