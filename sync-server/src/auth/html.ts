const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, found => ENTITIES[found] as string)

export const field = (
  label: string,
  name: string,
  type: string,
  value: string,
  autocomplete: string,
): string =>
  `<label>${escapeHtml(label)}<input name="${name}" type="${type}" value="${escapeHtml(value)}" required autocomplete="${autocomplete}"></label>`

/** A whole page. `body` is HTML: everything that came from somebody must have gone through `escapeHtml`. */
export const page = (title: string, body: string): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)} · Pluto Duck</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/pages.css">
</head>
<body><main><p class="brand">Pluto Duck</p><h1>${escapeHtml(title)}</h1>
${body}
</main></body>
</html>
`

export const STYLE = `
:root { color-scheme: light dark; --back: #f7f6f3; --card: #fff; --text: #1d1c1a; --soft: #6b675f; --line: #dcd8d0; --accent: #ffc53d; --ink: #1f1a0a; --link: #765000; --bad: #a3271d; }
@media (prefers-color-scheme: dark) { :root { --back: #16171a; --card: #1f2125; --text: #ecebe8; --soft: #a09d96; --line: #3a3d43; --link: #ffd061; --bad: #ff8f84; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { width: min(26rem, 92vw); padding: 2rem; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
h1 { margin: 0 0 1rem; font-size: 1.35rem; }
.brand { margin: 0 0 .25rem; color: var(--soft); font-size: .85rem; }
label { display: block; margin: 0 0 .9rem; font-size: .85rem; color: var(--soft); }
input { display: block; width: 100%; margin-top: .25rem; padding: .55rem .65rem; font: inherit; color: var(--text); background: var(--back); border: 1px solid var(--line); border-radius: 6px; }
button { padding: .55rem 1rem; font: inherit; font-weight: 600; color: var(--ink); background: var(--accent); border: 1px solid var(--accent); border-radius: 6px; cursor: pointer; }
button.quiet { color: var(--text); background: none; border-color: var(--line); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
a { color: var(--link); }
pre { padding: .6rem; overflow-x: auto; background: var(--back); border-radius: 6px; }
.problem { color: var(--bad); }
`
