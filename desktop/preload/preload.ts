import { contextBridge, ipcRenderer } from 'electron'
import type { PlutoWindow } from '../renderer/bridge/pluto-window.ts'

/** The one object that the page gets. The main process checks who calls and what. */
const pluto: PlutoWindow = {
  call: (method, input) => ipcRenderer.invoke('pluto:call', method, input),
  onEvent: listener => void ipcRenderer.on('pluto:event', (_event, value: unknown) => listener(value)),
  onConnection: listener =>
    void ipcRenderer.on('pluto:connection', (_event, connected: boolean) => listener(connected)),
}
contextBridge.exposeInMainWorld('pluto', pluto)
