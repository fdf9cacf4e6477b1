/** Somebody that a message calls: a member by id, or an email address. */
export type Mention =
  | { readonly kind: 'member'; readonly id: string; readonly label: string }
  | { readonly kind: 'email'; readonly email: string }

const CODE = /```[\s\S]*?(?:```|$)|`[^`\n]*`/g
const MENTION =
  /(?<![\p{L}\p{N}_.])@(?:\[([^\]\n]{1,100})\]\(([\w-]{1,64})\)|([\w.+-]+@[\w-]+(?:\.[\w-]+)+))/gu

/** How a mention of a member is written in a body; `mentionsOf` reads it back. */
export function mentionText(id: string, label: string): string {
  return `@[${label.replaceAll(/[[\]\n]/g, ' ')}](${id})`
}

/** The mentions of a body, `@[Label](member-id)` or `@name@example.org`, each once, in order; code is passed over. */
export function mentionsOf(body: string): Mention[] {
  const found = new Map<string, Mention>()
  for (const [, label, id, email] of body.replace(CODE, ' ').matchAll(MENTION)) {
    if (id !== undefined && !found.has(id)) found.set(id, { kind: 'member', id, label: label ?? '' })
    else if (email !== undefined) {
      const address = email.toLowerCase()
      if (!found.has(address)) found.set(address, { kind: 'email', email: address })
    }
  }
  return [...found.values()]
}
