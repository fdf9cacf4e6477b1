export { renderReport } from './render-report.ts'
export { type ReportBlock, type ReportLayout, readReport } from './report-blocks.ts'
export { openReportReader, type ReaderInput, reportSteps } from './report-reader.ts'
export type * from './report-types.ts'
