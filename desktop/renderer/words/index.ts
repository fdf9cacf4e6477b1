import { en } from './en.ts'

/** Every word of the app. Another language is another object of this shape. */
export type Words = typeof en
export const t: Words = en
