import { METHODS } from '@pluto-duck/engine/contract'
import { APP_HOST, APP_SCHEME } from './app-protocol.ts'

/** Whether a frame may use the bridge: only the top frame of the app's own page. A report's frame has an opaque origin. */
export function isOwnFrame(frame: { readonly url: string; readonly isTop: boolean } | null): boolean {
  if (!frame?.isTop) return false
  try {
    const url = new URL(frame.url)
    return url.protocol === `${APP_SCHEME}:` && url.host === APP_HOST
  } catch {
    return false
  }
}

/** Whether it is a method of the contract; names of the table's own, never of its prototype. */
export const isMethod = (name: unknown): name is keyof typeof METHODS =>
  typeof name === 'string' && Object.hasOwn(METHODS, name)

/** Whether the system's browser may open an address from the app: sign-in pages and documentation, nothing local. */
export function mayOpenOutside(address: string): boolean {
  try {
    const { protocol, username, password } = new URL(address)
    return (protocol === 'https:' || protocol === 'http:') && username === '' && password === ''
  } catch {
    return false
  }
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const TABS = new Set(['build', 'runs', 'report', 'history', 'discuss'])

/** The route of `pluto-duck://p/<pipeline>/<tab>`; null for anything else, so a link can only show, never do. */
export function routeOfLink(link: string): string | null {
  let url: URL
  try {
    url = new URL(link)
  } catch {
    return null
  }
  if (url.protocol !== 'pluto-duck:' || url.host !== 'p') return null
  const [pipeline = '', tab = 'build'] = url.pathname.split('/').filter(Boolean)
  return ID.test(pipeline) && TABS.has(tab) ? `#/p/${pipeline}/${tab}` : null
}
