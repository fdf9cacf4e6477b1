const MAC = typeof navigator !== 'undefined' && /Mac|iP(hone|ad)/.test(navigator.platform)

/** `Mod-Shift-Enter` as this system writes it: ⇧⌘↵ or Ctrl+Shift+Enter. */
export function keyName(keys: string): string {
  const parts = keys.split('-')
  if (!MAC) return parts.map(part => (part === 'Mod' ? 'Ctrl' : part)).join('+')
  const signs: Record<string, string> = { Mod: '⌘', Shift: '⇧', Alt: '⌥', Enter: '↵' }
  return parts.map(part => signs[part] ?? part).join('')
}

export const isMod = (event: KeyboardEvent | MouseEvent): boolean => (MAC ? event.metaKey : event.ctrlKey)

/** Whether keys typed there are text, so that single-letter shortcuts must leave them alone. */
export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
  )
}
