import { createReadStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { PAGE_CSP } from '@pluto-duck/engine/contract'
import {
  app,
  BrowserWindow,
  dialog,
  ipcMain,
  Menu,
  nativeImage,
  protocol,
  session,
  shell,
  Tray,
} from 'electron'
import { v7 } from 'uuid'
import { APP_ORIGIN, APP_SCHEME, fileOf } from './app-protocol.ts'
import { isMethod, isOwnFrame, mayOpenOutside, routeOfLink } from './guards.ts'
import { bridgeTo, type HostBridge } from './host-bridge.ts'
import { addressIn, attachHost, startHost } from './host-process.ts'
import { leaveQuestion, letsGo } from './leaving.ts'

/**
 * The window around the app. It serves the built page from `app://`, starts the host and hands calls and events on; it
 * holds no state of its own.
 */
const DIST = join(import.meta.dirname, '..')
const RENDERER = join(DIST, 'renderer')
const HOST = process.env.PLUTO_HOST_ENTRY ?? join(DIST, '..', '..', 'engine', 'bin', 'pluto.ts')

protocol.registerSchemesAsPrivileged([
  { scheme: APP_SCHEME, privileges: { standard: true, secure: true, supportFetchAPI: true } },
])
app.setAsDefaultProtocolClient('pluto-duck')
app.enableSandbox()

if (!app.requestSingleInstanceLock()) app.quit()
else void app.whenReady().then(start)

function start(): void {
  const running = addressIn(process.env.PLUTO_HOST_URL ?? '')
  const host = running ? attachHost(running) : startHost(HOST)
  let bridge: HostBridge | null = null
  let window: BrowserWindow | null = null
  const send = (channel: string, value: unknown): void => window?.webContents.send(channel, value)

  host.onReady(address => {
    bridge?.close()
    bridge = bridgeTo(
      address,
      v7(),
      event => send('pluto:event', event),
      connected => send('pluto:connection', connected),
    )
  })
  host.onGone(() => send('pluto:connection', false))

  session.defaultSession.setPermissionRequestHandler((_contents, permission, allow) =>
    allow(permission === 'clipboard-sanitized-write'),
  )
  session.defaultSession.protocol.handle(APP_SCHEME, request => {
    const file = fileOf(request.url, RENDERER)
    if (!file || !existsSync(file.path)) return new Response('Not found', { status: 404 })
    return new Response(Readable.toWeb(createReadStream(file.path)) as ReadableStream, {
      headers: {
        'content-type': file.type,
        'content-security-policy': PAGE_CSP,
        'x-content-type-options': 'nosniff',
      },
    })
  })

  ipcMain.handle('pluto:call', (event, method: unknown, input: unknown) => {
    const frame = event.senderFrame
    const own = isOwnFrame(frame ? { url: frame.url, isTop: frame.parent === null } : null)
    if (!own || !isMethod(method))
      return { ok: false, error: { code: 'auth.forbidden', message: 'This call is not allowed.', hint: '' } }
    return (
      bridge?.call(method, input) ?? {
        ok: false,
        error: { code: 'host.unreachable', message: 'The local host is starting.', hint: 'Wait a moment.' },
      }
    )
  })

  const show = (route: string | null): void => {
    if (!window) window = openWindow(() => (window = null))
    else if (window.isMinimized()) window.restore()
    window.focus()
    if (route) void window.loadURL(`${APP_ORIGIN}/${route}`)
  }
  app.on('second-instance', (_event, args) =>
    show(args.map(routeOfLink).find(route => route !== null) ?? null),
  )
  app.on('open-url', (_event, link) => show(routeOfLink(link)))
  app.on('activate', () => show(null))
  // The host goes on behind the tray, so that schedules run; quitting is explicit.
  app.on('window-all-closed', () => undefined)
  // Not before the window is closed: one that is kept open needs its host.
  app.on('will-quit', () => {
    bridge?.close()
    void host.stop()
  })

  const tray = new Tray(nativeImage.createEmpty())
  tray.setToolTip('Pluto Duck')
  tray.setContextMenu(
    Menu.buildFromTemplate([
      { label: 'Open Pluto Duck', click: () => show(null) },
      { type: 'separator' },
      { label: 'Quit', click: () => app.quit() },
    ]),
  )
  show(process.argv.map(routeOfLink).find(route => route !== null) ?? null)
}

function openWindow(closed: () => void): BrowserWindow {
  const window = new BrowserWindow({
    width: 1440,
    height: 900,
    minWidth: 960,
    minHeight: 600,
    webPreferences: {
      preload: join(DIST, 'preload', 'preload.cjs'),
      contextIsolation: true,
      sandbox: true,
      nodeIntegration: false,
      webviewTag: false,
    },
  })
  window.webContents.setWindowOpenHandler(({ url }) => {
    if (mayOpenOutside(url)) void shell.openExternal(url)
    return { action: 'deny' }
  })
  window.webContents.on('will-navigate', (event, url) => {
    if (!url.startsWith(`${APP_ORIGIN}/`)) event.preventDefault()
  })
  // The page holds what is stored nowhere, and asks; without an answer the window would just stay.
  window.webContents.on('will-prevent-unload', event => {
    if (letsGo(dialog.showMessageBoxSync(window, leaveQuestion))) event.preventDefault()
  })
  window.on('closed', closed)
  void window.loadURL(`${APP_ORIGIN}/`)
  return window
}
