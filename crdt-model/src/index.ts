export { canonicalJson, contentHash, sha256Hex } from './canonical/canonical.ts'
export {
  type CommentsDoc,
  type CommentsSubject,
  commentsDocumentId,
  commentsGenesisActor,
  commentsGenesisHash,
  createComments,
  type MessageDoc,
  type ThreadDoc,
} from './comments/comments-document.ts'
export {
  addThread,
  editComments,
  editMessage,
  MESSAGE_LIMIT,
  type NewThread,
  removeMessage,
  reopenThread,
  reply,
  resolveThread,
} from './comments/edit-comments.ts'
export { type Mention, mentionsOf, mentionText } from './comments/mentions.ts'
export {
  authorsOf,
  type CommentMessage,
  type Comments,
  type CommentThread,
  readComments,
} from './comments/read-comments.ts'
export {
  CommentsIndex,
  type CommentsTouch,
  type CommentsVerdict,
  type CommentsVerdictInput,
  commentsChangeVerdict,
} from './comments/verdict.ts'
export { contentOf, rootOf } from './content/content.ts'
export { type ChangeHeader, readChangeHeader } from './content/header.ts'
export {
  type DefinitionDiff,
  diffDefinitions,
  type FieldChange,
  type NamedDiff,
  type StepDiff,
} from './diff/diff-definitions.ts'
export { type DiffLine, diffLines, diffText, type Hunk, type TextDiff } from './diff/diff-text.ts'
export {
  type CommentAnchor,
  commentAnchor,
  makeAnchor,
  type ResolvedAnchor,
  resolveAnchor,
  type TextAnchor,
} from './documents/anchors.ts'
export { type BlamedLine, blameLines, ChangeFinder } from './documents/blame.ts'
export { isLinear } from './documents/causality.ts'
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
export {
  composeDraft,
  draftTitle,
  forkAt,
  forkDraft,
  headsOfOwn,
  MAX_TITLE,
  splitChanges,
} from './documents/fork.ts'
export { makeEqualTo } from './documents/make-equal.ts'
export {
  type ChangeRecord,
  conflictMarks,
  type Mark,
  type MarkSide,
  type MarksInput,
} from './documents/marks.ts'
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
export { type PipelineEdits, rebaseDefinition, Without } from './documents/rebase.ts'
export {
  type NamedDoc,
  type PipelineDoc,
  SCHEMA_VERSION,
  type StepDoc,
  type StepSetting,
  type SubjectKind,
  type TestDoc,
} from './documents/schema.ts'
export { takeSide } from './documents/take-side.ts'
export { type Upgrade, upgradeActor, upgradeChanges, upgradeDocument } from './documents/upgrade.ts'
export { type ImportOptions, type ImportResult, pipelineFromFiles } from './files/from-files.ts'
export { pipelineToFiles } from './files/to-files.ts'
