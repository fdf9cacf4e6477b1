import { describe, expect, it } from 'vitest'
import { isOccurrence, parseTiming, plan, waitOf } from '../../src/schedules/plan.ts'

const at = (text: string) => new Date(`${text}Z`)
const daily = { cron: '0 7 * * *', timezone: 'UTC', window_s: 3 * 86_400 }
const iso = (dates: readonly Date[]) => dates.map(date => date.toISOString().slice(0, 16))

describe('what is due', () => {
  const week = {
    ...daily,
    after: at('2026-03-01T00:00:00'),
    now: at('2026-03-08T08:00:00'),
    known: new Set<number>(),
  }

  it('[SCH1] `latest` gives the last occurrence only, `all` those within the window, `skip` only one whose time is now', () => {
    expect(iso(plan({ ...week, missed: 'latest' }).due)).toEqual(['2026-03-08T07:00'])
    expect(iso(plan({ ...week, missed: 'all' }).due)).toEqual([
      '2026-03-06T07:00',
      '2026-03-07T07:00',
      '2026-03-08T07:00',
    ])
    expect(plan({ ...week, missed: 'skip' }).due).toEqual([])
    expect(iso(plan({ ...week, missed: 'skip', now: at('2026-03-08T07:03:00') }).due)).toEqual([
      '2026-03-08T07:00',
    ])
  })

  it('[SCH2] whatever was missed for good is recorded with a reason', () => {
    for (const missed of ['skip', 'latest', 'all'] as const) {
      const { due, skipped } = plan({ ...week, missed })
      expect(due.length + skipped.length).toBe(8)
      for (const { reason } of skipped) expect(reason).not.toBe('')
    }
  })

  it('[SCH3] what has its row is not due again', () => {
    const known = new Set([at('2026-03-08T07:00:00').getTime()])
    expect(plan({ ...week, missed: 'latest', known }).due).toEqual([])
  })

  it('[SCH4] a time zone’s clock change neither doubles nor drops what comes at times of the day', () => {
    const spring = { after: at('2026-03-28T12:00:00'), now: at('2026-03-30T12:00:00') }
    const autumn = { after: at('2026-10-24T12:00:00'), now: at('2026-10-26T12:00:00') }
    // The clocks of Berlin go from 02:00 to 03:00, when what lies between comes, and from 03:00 back to 02:00.
    for (const [cron, sprung, fell] of [
      ['30 2 * * *', ['2026-03-29T01:00', '2026-03-30T00:30'], ['2026-10-25T00:30', '2026-10-26T01:30']],
      [
        '30 2,14 * * *',
        ['2026-03-28T13:30', '2026-03-29T01:00', '2026-03-29T12:30', '2026-03-30T00:30'],
        ['2026-10-24T12:30', '2026-10-25T00:30', '2026-10-25T13:30', '2026-10-26T01:30'],
      ],
      [
        '15,45 2 * * *',
        ['2026-03-29T01:00', '2026-03-30T00:15', '2026-03-30T00:45'],
        ['2026-10-25T00:15', '2026-10-25T00:45', '2026-10-26T01:15', '2026-10-26T01:45'],
      ],
    ] as const) {
      const timing = { cron, timezone: 'Europe/Berlin' }
      for (const [season, times] of [
        [spring, sprung],
        [autumn, fell],
      ] as const) {
        const { due } = plan({ ...timing, ...season, window_s: 31 * 86_400, known: new Set(), missed: 'all' })
        expect([cron, iso(due)]).toEqual([cron, times])
        expect(due.map(time => isOccurrence(timing, time))).toEqual(due.map(() => true))
      }
    }
  })

  it('[SCH4] what comes every so often goes on doing so through a change of the clocks', () => {
    const hourly = {
      cron: '*/30 * * * *',
      timezone: 'Europe/Berlin',
      window_s: 86_400,
      known: new Set<number>(),
    }
    const night = { after: at('2026-10-24T23:59:00'), now: at('2026-10-25T02:00:00') }
    expect(iso(plan({ ...hourly, ...night, missed: 'all' }).due)).toEqual([
      '2026-10-25T00:00',
      '2026-10-25T00:30',
      '2026-10-25T01:00',
      '2026-10-25T01:30',
      '2026-10-25T02:00',
    ])
  })

  it('[SCH5] a bad pattern or time zone is refused', () => {
    for (const timing of [
      { cron: 'every day', timezone: 'UTC' },
      { cron: '* * * * * *', timezone: 'UTC' },
      { cron: '0 7 * * *', timezone: 'Mars/Base' },
      { cron: '99 7 * * *', timezone: 'UTC' },
    ]) {
      expect(() => parseTiming(timing), timing.cron).toThrow(
        expect.objectContaining({ code: 'schedule.invalid' }),
      )
    }
  })

  it('[SCH6] agents take it in their order, each a minute after the one before', () => {
    expect(waitOf([], 'x')).toBe(0)
    expect([waitOf(['a', 'b'], 'a'), waitOf(['a', 'b'], 'b'), waitOf(['a', 'b'], 'c')]).toEqual([0, 60, null])
  })

  it('knows an occurrence from another moment', () => {
    expect(isOccurrence(daily, at('2026-03-08T07:00:00'))).toBe(true)
    expect(isOccurrence(daily, at('2026-03-08T07:00:01'))).toBe(false)
  })
})
