export * from './documents/definition.ts'
