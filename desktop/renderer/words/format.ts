/** Dates, numbers and durations by the reader's own locale and time zone. */
const locale = typeof navigator === 'undefined' ? 'en' : navigator.language
const dateTime = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })
const whole = new Intl.NumberFormat(locale)
const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto', style: 'short' })
const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const

export const when = (time: string): string => dateTime.format(new Date(time))
export const count = (value: number): string => whole.format(value)

/** `5 min. ago`; a date when it is longer ago than a month. */
export function ago(time: string, now = Date.now()): string {
  const seconds = (new Date(time).getTime() - now) / 1000
  if (Math.abs(seconds) > 30 * 86_400) return when(time)
  for (const [unit, size] of UNITS)
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit)
  return relative.format(Math.min(0, Math.round(seconds)), 'second')
}

/** Milliseconds as `312 ms`, `4.1 s` or `3 min 20 s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${whole.format(Math.round(ms))} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`
}

export function bytes(value: number): string {
  if (value < 1000) return `${value} B`
  if (value < 1e6) return `${(value / 1e3).toFixed(1)} KB`
  if (value < 1e9) return `${(value / 1e6).toFixed(1)} MB`
  return `${(value / 1e9).toFixed(1)} GB`
}
