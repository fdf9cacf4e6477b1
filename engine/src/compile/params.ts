import type { ParamDefinition, Scalar } from '@pluto-duck/crdt-model'
import type { ParamValue } from './sql-port.ts'

export type ParamReading =
  | { readonly ok: true; readonly value: Scalar }
  | { readonly ok: false; readonly reason: string }

const DATE = /^\d{4}-\d{2}-\d{2}$/
const TIMESTAMP = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:?\d{2})?)?$/

/**
 * One value as its type. Text that comes from a command line is read as the type (`"42"` is an integer); anything that would
 * change the value (`1.5` for an integer, a date that is not in the calendar) is refused with a reason that names no value.
 */
export function readParam(type: ParamDefinition['type'], given: Scalar): ParamReading {
  const bad = (reason: string): ParamReading => ({ ok: false, reason })
  if (given === null) return { ok: true, value: null }
  switch (type) {
    case 'text':
      return typeof given === 'string' ? { ok: true, value: given } : bad('is not text: put it in quotes')
    case 'integer': {
      const text = String(given).trim()
      if (typeof given === 'boolean' || !/^[+-]?\d+$/.test(text)) return bad('is not a whole number')
      const value = Number(text)
      return Number.isSafeInteger(value)
        ? { ok: true, value }
        : bad('is beyond what a whole number can hold exactly (2^53)')
    }
    case 'number': {
      const value = typeof given === 'string' && given.trim() === '' ? Number.NaN : Number(given)
      return typeof given !== 'boolean' && Number.isFinite(value)
        ? { ok: true, value }
        : bad('is not a number')
    }
    case 'boolean': {
      if (typeof given === 'boolean') return { ok: true, value: given }
      const word = String(given).toLowerCase()
      if (word === 'true' || word === 'false') return { ok: true, value: word === 'true' }
      return bad('is neither true nor false')
    }
    case 'date':
      if (typeof given !== 'string' || !DATE.test(given)) return bad('is not a date: write it as 2026-01-31')
      return isCalendarDay(given) ? { ok: true, value: given } : bad('is not a day of the calendar')
    case 'timestamp':
      if (typeof given !== 'string' || !TIMESTAMP.test(given))
        return bad('is not a time: write it as 2026-01-31T13:00:00')
      return isCalendarDay(given.slice(0, 10)) && isTimeOfDay(given.slice(11, 19))
        ? { ok: true, value: given }
        : bad('is not a time of the calendar')
  }
}

function isCalendarDay(day: string): boolean {
  const date = new Date(`${day}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day)
}

function isTimeOfDay(time: string): boolean {
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(part => Number.parseInt(part, 10) || 0)
  return hours < 24 && minutes < 60 && seconds < 60
}

export interface ParamProblem {
  readonly param: string
  readonly reason: string
  readonly hint: string
}

export interface ResolvedParams {
  readonly values: Readonly<Record<string, ParamValue>>
  readonly problems: readonly ParamProblem[]
  /** Params that a run must be given, since they have no default. */
  readonly missing: readonly string[]
}

/** Given values over defaults, typed and checked against `allowed`. Never stops at the first problem. */
export function resolveParams(
  definitions: Readonly<Record<string, ParamDefinition>>,
  given: Readonly<Record<string, Scalar>> = {},
): ResolvedParams {
  const values: Record<string, ParamValue> = {}
  const problems: ParamProblem[] = []
  const missing: string[] = []
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(definitions, name)) {
      problems.push({
        param: name,
        reason: 'is not declared',
        hint: 'Declare it under params in pipeline.yaml, or leave it out.',
      })
    }
  }
  for (const [name, definition] of Object.entries(definitions)) {
    const raw = Object.hasOwn(given, name) ? (given[name] ?? null) : definition.default
    const reading = readParam(definition.type, raw)
    values[name] = { type: definition.type, value: reading.ok ? reading.value : null }
    if (!reading.ok) {
      problems.push({ param: name, reason: reading.reason, hint: `Give ${name} as ${definition.type}.` })
    } else if (reading.value === null) {
      missing.push(name)
    } else if (!isAllowed(definition, reading.value)) {
      problems.push({
        param: name,
        reason: 'is not one of the allowed values',
        hint: `Use one of: ${definition.allowed.map(String).join(', ')}.`,
      })
    }
  }
  return { values, problems, missing }
}

function isAllowed(definition: ParamDefinition, value: Scalar): boolean {
  if (definition.allowed.length === 0) return true
  return definition.allowed.some(allowed => {
    const reading = readParam(definition.type, allowed)
    return reading.ok && reading.value === value
  })
}

/** What the definition itself says about a param: its default and its allowed values have to be of its type. */
export function checkParamDefinition(name: string, definition: ParamDefinition): ParamProblem[] {
  const problems: ParamProblem[] = []
  const check = (value: Scalar, what: string) => {
    const reading = readParam(definition.type, value)
    if (!reading.ok)
      problems.push({
        param: name,
        reason: `${what} ${reading.reason}`,
        hint: `Give it as ${definition.type}.`,
      })
  }
  check(definition.default, 'has a default that')
  for (const value of definition.allowed) check(value, 'has an allowed value that')
  if (problems.length === 0 && definition.default !== null && !isAllowed(definition, definition.default)) {
    problems.push({
      param: name,
      reason: 'has a default that is not one of its allowed values',
      hint: 'Add the default to allowed, or choose another.',
    })
  }
  return problems
}
