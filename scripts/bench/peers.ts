/** The workloads on which other sync engines are measured beside ours, and the tables of what was found. */

/** What one engine did in one case: figures by name, or why there are none. */
export interface PeerResult {
  readonly engine: string
  /** `Case.name`. */
  readonly of: string
  /** ISO 8601, and the load of the machine (one minute) when it ended. */
  readonly at: string
  readonly load: number
  readonly figures: Readonly<Record<string, number | null>> | null
  /** In a few words, when `figures` is null. */
  readonly failed: string | null
}

interface Column {
  readonly figure: string
  readonly title: string
  /** What is printed is the figure times this, with so many digits behind the point. */
  readonly times: number
  readonly digits: number
  /** Our figure of the same meaning, from `npm run bench`, and what makes it the peers' unit. */
  readonly ours: readonly [name: string, times: number] | null
  /** A count has no ratio. */
  readonly ratio: boolean
}

export interface Case {
  /** The same in a later call with the same sizes. */
  readonly name: string
  readonly workload: string
  readonly title: string
  readonly sizes: Readonly<Record<string, number>>
  readonly columns: readonly Column[]
}

export const OURS = 'pluto-duck'
export const WORKLOADS = ['w1', 'w2', 'w3', 'w4', 'w5', 'w6']

const column = (
  figure: string,
  title: string,
  ours: Column['ours'],
  { times = 1, digits = 2, ratio = true } = {},
): Column => ({ figure, title, ours, times, digits, ratio })

/** Medians of `rounds`; our own benchmarks take as many. */
export function casesOf(full: boolean): Case[] {
  const few = full ? 5 : 3
  const rare = full ? 5 : 1
  const one = (workload: string, title: string, sizes: Case['sizes'], columns: Column[]): Case => ({
    name: `${workload} ${JSON.stringify(sizes)}`,
    workload,
    title,
    sizes,
    columns,
  })
  const keystrokes = full ? 259_778 : 26_000
  return [
    ...(full ? [1_000, 5_000] : [1_000]).map(documents =>
      one(
        'w1',
        `W1: a new device takes ${thousands(documents)} small documents`,
        { documents, rounds: few },
        [
          column('seconds', 's', [`w1_${documents}_seconds`, 1]),
          column('bytes', 'KB', [`w1_${documents}_bytes`, 1e6], { times: 1e-3, digits: 0 }),
          column('server_cpu', 'server CPU s', [`w1_${documents}_server_cpu`, 1]),
        ],
      ),
    ),
    one(
      'w2',
      `W2: a text of ${thousands(keystrokes)} keystrokes, until it can be edited`,
      { keystrokes, rounds: few },
      [
        column('seconds', 's', ['w2_editable', 1e-3]),
        column('bytes', 'KB', ['w2_bytes', 1e3], { times: 1e-3, digits: 0 }),
      ],
    ),
    ...(full ? [10, 50] : [10]).map(readers =>
      one(
        'w3',
        `W3: 20 edits a second, visible to ${readers} readers`,
        { readers, seconds: full ? 20 : 5, rounds: rare },
        [
          column('p50', 'p50 ms', [`w3_${readers}_readers_visible_p50`, 1], { digits: 1 }),
          column('p99', 'p99 ms', [`w3_${readers}_readers_visible_p99`, 1], { digits: 1 }),
          column('bytes_p50', 'bytes p50 ms', [`w3_${readers}_readers_bytes_p50`, 1], {
            digits: 1,
            ratio: false,
          }),
          column('bytes_p99', 'bytes p99 ms', [`w3_${readers}_readers_bytes_p99`, 1], {
            digits: 1,
            ratio: false,
          }),
          column('missed', 'missed', [`w3_${readers}_readers_missed`, 1], { digits: 0, ratio: false }),
          column('server_cpu', 'server CPU s', [`w3_${readers}_readers_server_cpu`, 1]),
        ],
      ),
    ),
    one('w4', 'W4: 20 writers, 10,000 changes', { edits: 500, rounds: rare }, [
      column('visible', 'visible s', ['w4_visible', 1]),
      column('stored', 'stored s', ['w4_acknowledged', 1]),
      column('server_cpu', 'server CPU s', ['w4_server_cpu', 1]),
    ]),
    one('w5', 'W5: two devices, 2,000 offline edits each', { edits: 2_000, rounds: few }, [
      column('seconds', 's', ['w5_seconds', 1]),
      column('bytes', 'KB', ['w5_bytes', 1e3], { times: 1e-3, digits: 0 }),
      column('server_cpu', 'server CPU s', ['w5_server_cpu', 1]),
    ]),
    one('w6', 'W6: kill -9 of the server right after "synced"', { kills: full ? 20 : 5, rounds: 1 }, [
      column('kills', 'kills', ['w6_kills', 1], { digits: 0, ratio: false }),
      column('lossy', 'with loss', ['w6_lost', 1], { digits: 0, ratio: false }),
    ]),
  ]
}

/** Our row of a case, from figures of `npm run bench` by name; null where they are not there. */
export function ourFigures(of: Case, bench: ReadonlyMap<string, number>): PeerResult['figures'] {
  const found = of.columns.map(one => {
    const value = one.ours && bench.get(one.ours[0])
    return [one.figure, one.ours && value != null ? value * one.ours[1] : null] as const
  })
  return found.some(([, value]) => value !== null) ? Object.fromEntries(found) : null
}

/** One table for a case: our row first, then the peers in the order given; ratios are to ours. */
export function tableOf(of: Case, results: readonly PeerResult[]): string {
  const ours = results.find(one => one.engine === OURS)
  const rows = [ours, ...results.filter(one => one.engine !== OURS)]
    .filter(one => one !== undefined)
    .map(one => [
      one.engine,
      ...(one.figures === null
        ? [`failed: ${one.failed}`]
        : of.columns.map(each => cell(each, one.figures!, one === ours ? null : (ours?.figures ?? null)))),
    ])
  const head = ['', ...of.columns.map(each => each.title)]
  const whole = [head, ...rows]
  const widths = head.map((_, at) =>
    Math.max(...whole.filter(row => row.length === head.length).map(row => row[at]!.length)),
  )
  const first = Math.max(...whole.map(row => row[0]!.length))
  const lines = whole.map(row =>
    row
      .map((text, at) =>
        at === 0 ? text.padEnd(first) : row.length === head.length ? text.padStart(widths[at]!) : text,
      )
      .join('  ')
      .trimEnd(),
  )
  return [of.title, ...lines].join('\n')
}

function cell(
  { figure, times, digits, ratio }: Column,
  figures: NonNullable<PeerResult['figures']>,
  ours: PeerResult['figures'],
): string {
  const value = figures[figure] ?? null
  if (value === null) return '–'
  const text = thousands(Number((value * times).toFixed(digits)), digits)
  const base = ours?.[figure] ?? null
  return ratio && base !== null && base > 0 ? `${text} (${short(value / base)}x)` : text
}

const thousands = (value: number, digits = 0): string =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
const short = (value: number): string =>
  value >= 10 ? value.toFixed(0) : value >= 0.1 ? value.toFixed(1) : value.toFixed(2)
