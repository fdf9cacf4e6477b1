import wasmUrl from '@automerge/automerge/automerge.wasm?url'
import { initializeWasm } from '@automerge/automerge/slim'
import { mount } from 'svelte'
import App from './App.svelte'
import { electronBridge } from './bridge/electron-bridge.ts'
import { httpBridge } from './bridge/http-bridge.ts'
import type { PlutoWindow } from './bridge/pluto-window.ts'
import NotStarted from './frame/NotStarted.svelte'
import './styles/app.css'

// The token did its work when the page was loaded (the host answered with a cookie): keep it out of history and screenshots.
const address = new URL(location.href)
if (address.searchParams.has('token')) {
  address.searchParams.delete('token')
  history.replaceState(null, '', address)
}

const target = document.getElementById('app')
if (!target) throw new Error('The page has no #app.')

const pluto = (window as { pluto?: PlutoWindow }).pluto
const bridge = pluto ? electronBridge(pluto) : httpBridge()
try {
  await initializeWasm(wasmUrl)
} catch (error) {
  mount(NotStarted, { target, props: { error } })
  throw error
}
mount(App, { target, props: { bridge } })
