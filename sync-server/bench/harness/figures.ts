import { loadavg } from 'node:os'

export interface Measured {
  readonly name: string
  readonly value: number
  readonly unit: string
  /** The same work done by the bare engine or database in this run. */
  readonly floor?: number
  /** What `value` should reach; with `goalOf: 'ratio'` what value / floor should. */
  readonly goal?: number
  readonly goalOf?: 'value' | 'ratio'
  /** Default: lower. */
  readonly better?: 'lower' | 'higher'
}

/** Prints one figure as a line of JSON, as `npm run bench` reads it. */
export function print(measured: Measured): void {
  const { name, value, unit, floor, goal, goalOf = 'value', better = 'lower' } = measured
  const ratio = floor === undefined ? null : value / floor
  const judged = goalOf === 'ratio' ? ratio : value
  const met =
    goal === undefined || judged === null ? null : better === 'lower' ? judged <= goal : judged >= goal
  console.log(
    JSON.stringify({
      name,
      value: rounded(value),
      unit,
      floor: floor === undefined ? null : rounded(floor),
      ratio: ratio === null ? null : rounded(ratio),
      goal: goal ?? null,
      met,
      better,
    }),
  )
}

const rounded = (value: number): number =>
  Math.abs(value) >= 1_000 ? Math.round(value) : Number(value.toPrecision(4))

/** How busy the machine is: said beside the figures, because they are worth little on a busy one. */
export const sayLoad = (): void => console.log(`load ${loadavg()[0]!.toFixed(2)}`)

export const median = (values: readonly number[]): number => percentile(values, 0.5)

/** The smallest value that is not below `part` (0 to 1) of all; NaN of none. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN
}
