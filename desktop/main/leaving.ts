import type { MessageBoxSyncOptions } from 'electron'
import { t } from '../renderer/words/index.ts'

/** What is asked before a window closes that holds changes which are stored nowhere; the page says when (`beforeunload`). */
export const leaveQuestion: MessageBoxSyncOptions = {
  type: 'warning',
  message: t.leave.title,
  detail: t.leave.text,
  buttons: [t.leave.stay, t.leave.close],
  // Enter and Escape lose nothing.
  defaultId: 0,
  cancelId: 0,
  noLink: true,
}

/** Whether the answer to `leaveQuestion` lets the window go. */
export const letsGo = (button: number): boolean => button === 1
