export { canonicalJson, contentHash, sha256Hex } from './canonical/canonical.ts'
export * from './documents/definition.ts'
export {
  addStep,
  addTest,
  editPipeline,
  moveStep,
  type NewStep,
  type NewTest,
  removeParam,
  removeSource,
  removeStep,
  removeTest,
  renameStep,
  restoreStep,
  setDescription,
  setName,
  setParam,
  setPublish,
  setSource,
  setStepDescription,
  setStepSetting,
  setTags,
  spliceReport,
  spliceStepSql,
  updateReport,
  updateStepSql,
  updateTest,
} from './documents/edit-pipeline.ts'
export { makeEqualTo } from './documents/make-equal.ts'
export {
  assertNotTooNew,
  createPipeline,
  type DocumentKind,
  type DocumentOptions,
  kindOf,
  loadDocument,
  type PipelineInit,
} from './documents/pipeline-document.ts'
export type { Problem } from './documents/problem.ts'
export { problemsOf } from './documents/problems.ts'
export {
  displayName,
  type PipelineReading,
  pipelineFromDoc,
  readPipeline,
} from './documents/read-pipeline.ts'
export {
  type NamedDoc,
  type PipelineDoc,
  SCHEMA_VERSION,
  type StepDoc,
  type StepSetting,
  type SubjectKind,
  type TestDoc,
} from './documents/schema.ts'
export { type ImportOptions, type ImportResult, pipelineFromFiles } from './files/from-files.ts'
export { pipelineToFiles } from './files/to-files.ts'
