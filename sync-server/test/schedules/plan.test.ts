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

  it('[SCH4] a time zone’s clock change neither doubles nor drops a daily occurrence', () => {
    const berlin = {
      cron: '30 2 * * *',
      timezone: 'Europe/Berlin',
      window_s: 31 * 86_400,
      known: new Set<number>(),
    }
    const spring = plan({
      ...berlin,
      missed: 'all',
      after: at('2026-03-27T12:00:00'),
      now: at('2026-03-31T12:00:00'),
    })
    const autumn = plan({
      ...berlin,
      missed: 'all',
      after: at('2026-10-23T12:00:00'),
      now: at('2026-10-27T12:00:00'),
    })
    expect(spring.due.length).toBe(4)
    expect(autumn.due.length).toBe(4)
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
