/** Shorter ones would blot out ordinary words; the secret store refuses them as too weak anyway. */
const SHORTEST = 4

/**
 * Replaces registered secrets in any text by `[secret]`, also when they are JSON-escaped, URL-encoded or in base64. A second line of
 * defence: secrets and values should never have come this far.
 */
export class SecretRedactor {
  #forms: readonly string[] = []

  /** Adds secrets; those of fewer than four characters are left alone. */
  register(secrets: Iterable<string>): void {
    const forms = new Set(this.#forms)
    for (const secret of secrets) {
      if (secret.length < SHORTEST) continue
      for (const form of formsOf(secret)) if (form.length >= SHORTEST) forms.add(form)
    }
    // Longest first, so that a secret that holds another one leaves no rest.
    this.#forms = [...forms].sort((a, b) => b.length - a.length)
  }

  redact(text: string): string {
    let clean = text
    for (const form of this.#forms) clean = clean.replaceAll(form, '[secret]')
    return clean
  }
}

function formsOf(secret: string): string[] {
  const bytes = Buffer.from(secret, 'utf8')
  const escaped = JSON.stringify(secret).slice(1, -1)
  return [secret, escaped, encodeURIComponent(secret), ...base64Forms(bytes)]
}

/** What base64 of a longer text holds, wherever in it the secret begins: the characters at its edges are shared with neighbours. */
function base64Forms(bytes: Buffer): string[] {
  return [0, 1, 2].flatMap(shift => {
    const padded = Buffer.concat([Buffer.alloc(shift), bytes])
    const text = padded.toString('base64').replaceAll('=', '')
    const start = shift === 0 ? 0 : shift + 1
    const end = (padded.length * 8) % 6 === 0 ? text.length : text.length - 1
    const core = text.slice(start, end)
    return [core, core.replaceAll('+', '-').replaceAll('/', '_')]
  })
}
