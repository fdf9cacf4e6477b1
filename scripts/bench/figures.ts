import { z } from 'zod'

/** One measured figure, as a benchmark prints it: one JSON object on a line. */
const figure = z.object({
  name: z.string(),
  value: z.number(),
  unit: z.string(),
  /** What the bare engine or database needs for the same work, measured in the same run, in the same unit. */
  floor: z.number().nullable(),
  /** value / floor. */
  ratio: z.number().nullable(),
  /** What `ratio` (or `value`, where there is no floor) should reach. */
  goal: z.number().nullable(),
  met: z.boolean().nullable(),
  /** Which way is good. Default: lower. */
  better: z.enum(['lower', 'higher']).default('lower'),
})
export type Figure = z.infer<typeof figure>

/** The figure on this line, or undefined when the line is something else. */
export function parseFigure(line: string): Figure | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    return figure.safeParse(JSON.parse(line)).data
  } catch {
    // Not JSON after all: an ordinary line of output.
    return undefined
  }
}

/** A table for people: one figure on a line, aligned. */
export function formatTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, value, unit, floor, ratio, goal, met, better }) => [
    name,
    `${short(value)} ${unit}`,
    floor === null ? '' : `${short(floor)} ${unit}`,
    ratio === null ? '' : ratio.toFixed(2),
    goal === null ? '' : `${better === 'lower' ? '<=' : '>='} ${short(goal)}`,
    met === null ? '' : met ? 'met' : 'missed',
  ])
  const table = [['figure', 'value', 'floor', 'ratio', 'goal', ''], ...rows]
  const widths = table[0]!.map((_, column) => Math.max(...table.map(row => row[column]!.length)))
  return table
    .map(row =>
      row
        .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function short(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return String(Math.round(value))
  return String(Number(value.toPrecision(3)))
}
