import { PAGE_CSP } from '@pluto-duck/engine/contract'
import { describe, expect, it } from 'vitest'
import { fileOf } from '../../main/app-protocol.ts'
import { isMethod, isOwnFrame, mayOpenOutside, routeOfLink } from '../../main/guards.ts'
import { eventsOf } from '../../main/host-bridge.ts'
import { addressIn } from '../../main/host-process.ts'
import { leaveQuestion, letsGo } from '../../main/leaving.ts'

const ROOT = '/opt/pluto/renderer'

describe('the window', () => {
  it('[WIN1] serves files of the built page and nothing else', () => {
    expect(fileOf('app://pluto-duck/', ROOT)?.path).toBe(`${ROOT}/index.html`)
    expect(fileOf('app://pluto-duck/assets/a.wasm', ROOT)?.type).toBe('application/wasm')
    // Dots that the URL itself resolves stay inside the folder.
    expect(fileOf('app://pluto-duck/%2e%2e/secret.js', ROOT)?.path).toBe(`${ROOT}/secret.js`)
    for (const address of [
      'app://pluto-duck/..%2f..%2fetc/passwd',
      'app://pluto-duck/a%00.js',
      'app://pluto-duck/%E0%A4%A.js',
      'app://elsewhere/index.html',
      'file:///etc/passwd',
      'app://pluto-duck/state.duckdb',
      'nonsense',
    ])
      expect([address, fileOf(address, ROOT)]).toEqual([address, null])
  })

  it('[WIN2] hands calls on from the top frame of its own page alone', () => {
    expect(isOwnFrame({ url: 'app://pluto-duck/#/', isTop: true })).toBe(true)
    expect(isOwnFrame({ url: 'app://pluto-duck/#/', isTop: false })).toBe(false)
    expect(isOwnFrame({ url: 'about:srcdoc', isTop: true })).toBe(false)
    expect(isOwnFrame({ url: 'https://pluto-duck/', isTop: true })).toBe(false)
    expect(isOwnFrame(null)).toBe(false)
    expect(isMethod('pipeline.list')).toBe(true)
    expect(isMethod('constructor')).toBe(false)
    expect(isMethod(['pipeline.list'])).toBe(false)
  })

  it('[WIN3] allows no remote content and no inline script', () => {
    expect(PAGE_CSP).toContain("default-src 'none'")
    expect(PAGE_CSP).toContain("script-src 'self' 'wasm-unsafe-eval';")
    expect(PAGE_CSP).not.toMatch(/https?:|script-src[^;]*'unsafe-(inline|eval)'|\*/)
  })

  it('[WIN4] opens web addresses outside, and shows a pipeline for a link', () => {
    expect(mayOpenOutside('https://pluto.example.com/device?code=A')).toBe(true)
    for (const address of ['file:///etc/passwd', 'javascript:alert(1)', 'https://a:b@example.com/', 'x'])
      expect(mayOpenOutside(address)).toBe(false)
    const id = '0190a000-0000-7000-8000-000000000001'
    expect(routeOfLink(`pluto-duck://p/${id}/report`)).toBe(`#/p/${id}/report`)
    expect(routeOfLink(`pluto-duck://p/${id}`)).toBe(`#/p/${id}/build`)
    for (const link of [
      `pluto-duck://p/${id}/delete`,
      'pluto-duck://p/../x',
      `https://p/${id}/build`,
      '--flag',
    ])
      expect(routeOfLink(link)).toBeNull()
  })

  it('[WIN5] finds the host by its ready line, on loopback only', () => {
    expect(addressIn('ready http://127.0.0.1:4321/?token=abc')).toEqual({
      origin: 'http://127.0.0.1:4321',
      token: 'abc',
    })
    expect(addressIn('ready http://192.168.0.9:4321/?token=abc')).toBeNull()
    expect(addressIn('listening')).toBeNull()
  })

  it('[WIN6] reads events whole, however the stream is cut', async () => {
    const bytes = new TextEncoder().encode(
      ': hi\n\ndata: {"a":"매출"}\n\nretry: 1\ndata: 1\ndata: 2\n\ndata: cut',
    )
    async function* cut(size: number) {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
    }
    for (const size of [1, 3, 7, 1000]) {
      const events: string[] = []
      for await (const event of eventsOf(cut(size))) events.push(event)
      expect(events).toEqual(['{"a":"매출"}', '1\n2'])
    }
  })

  it('[WIN7] keeps a window that holds unstored work open unless closing it is chosen', () => {
    const { buttons = [], defaultId, cancelId } = leaveQuestion
    expect([letsGo(defaultId ?? -1), letsGo(cancelId ?? -1)]).toEqual([false, false])
    expect(buttons.filter((_, button) => letsGo(button))).toEqual(['Close and lose it'])
  })
})
