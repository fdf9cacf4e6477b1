export { renderReport } from './render-report.ts'
export { type ReportBlock, type ReportLayout, readReport } from './report-blocks.ts'
export type * from './report-types.ts'
