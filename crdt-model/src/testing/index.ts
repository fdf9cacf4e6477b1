export { anyDefinition, anyText } from './arbitraries.ts'
export { anActor, aPipeline } from './builders.ts'
