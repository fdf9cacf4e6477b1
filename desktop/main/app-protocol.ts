import { extname, resolve, sep } from 'node:path'

/** The origin of the window: a custom scheme, since `file://` may not load wasm and has no origin of its own. */
export const APP_SCHEME = 'app'
export const APP_HOST = 'pluto-duck'
export const APP_ORIGIN = `${APP_SCHEME}://${APP_HOST}`

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
}

export interface AppFile {
  readonly path: string
  readonly type: string
}

/** The file of the built renderer that an `app://` address names; null for every other host, folder and kind of file. */
export function fileOf(address: string, root: string): AppFile | null {
  let url: URL
  let path: string
  try {
    url = new URL(address)
    path = decodeURIComponent(url.pathname)
  } catch {
    // No address, or %-signs that are none.
    return null
  }
  if (url.protocol !== `${APP_SCHEME}:` || url.host !== APP_HOST || path.includes('\0')) return null
  const file = resolve(root, `.${path === '/' ? '/index.html' : path}`)
  const type = TYPES[extname(file)]
  return type && file.startsWith(resolve(root) + sep) ? { path: file, type } : null
}
