export { executePlan } from './execute-plan.ts'
export { asFailure, withoutPrivate } from './failure.ts'
export { Preview, type PreviewOf, type PreviewParts, type PreviewRelation } from './preview.ts'
export { type RunEvent, runEvent, type StepState } from './run-events.ts'
export {
  DEFAULT_SETTINGS,
  type RunOutcome,
  type RunParts,
  type RunSettings,
  type StepOutcome,
} from './run-types.ts'
