import { toast } from 'svelte-sonner'
import { t } from '../words/index.ts'

/** An error as the bridge hands it over; a newer host may know codes that this window does not. */
export interface ShownError {
  readonly code: string
  readonly message: string
  readonly hint: string
  readonly details?: Record<string, unknown> | undefined
  readonly request_id?: string | undefined
}

/** Says that something went wrong: what happened, what to do next, and the details to copy. What is on the screen is not said twice. */
export function tellError(error: ShownError, what?: string): void {
  const message = what ? `${what}: ${error.message}` : error.message
  toast.error(message, {
    id: message,
    description: error.hint,
    duration: 10_000,
    action: { label: t.error.copy, onClick: () => void copyText(JSON.stringify(error, null, 2)) },
  })
}

export function tell(message: string, undo?: () => void): void {
  toast(message, undo ? { duration: 8000, action: { label: t.action.undo, onClick: undo } } : {})
}

export async function copyText(text: string): Promise<void> {
  await navigator.clipboard.writeText(text)
  toast(t.action.copied)
}
