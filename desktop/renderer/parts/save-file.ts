/** Hands a text to the browser as a download. */
export function saveFile(name: string, text: string, type = 'text/plain'): void {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  // The browser has taken the address by the next turn.
  setTimeout(() => URL.revokeObjectURL(url), 1000)
}

/** A folder of files as one readable text, each under its path. */
export const filesAsText = (files: Readonly<Record<string, string>>): string =>
  Object.entries(files)
    .map(([path, text]) => `==== ${path} ====\n${text}`)
    .join('\n\n')
