import wasmUrl from '@automerge/automerge/automerge.wasm?url'
import { initializeWasm } from '@automerge/automerge/slim'
import { mount } from 'svelte'
import App from '../../renderer/App.svelte'
import '../../renderer/styles/app.css'
import { memoryBridge } from './memory-bridge.ts'
import { type Scene, sceneOf } from './scenes.ts'

const target = document.getElementById('app')
if (!target) throw new Error('The page has no #app.')
await initializeWasm(wasmUrl)
const scene = new URLSearchParams(location.search).get('scene') ?? 'sample'
mount(App, { target, props: { bridge: memoryBridge(sceneOf(scene as Scene)) } })
