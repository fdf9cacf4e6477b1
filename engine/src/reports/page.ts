import { escapeHtml } from './cells.ts'
import type { ReportStep } from './report-types.ts'

/** Nothing is loaded from anywhere and nothing runs: styles are inline, charts are inline SVG. */
const CSP =
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

const CSS = `
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f27;--muted:#626b79;--line:#e3e6ea;--wash:#f6f7f9;--accent:#2a63b8;--good:#1d7d5a;--warn:#9a6500;--bad:#b3323c}
@media (prefers-color-scheme:dark){:root{--paper:#14171c;--ink:#e8eaee;--muted:#9aa3b0;--line:#2b3038;--wash:#1b1f26;--accent:#7fb0f5;--good:#5cc39a;--warn:#dfae54;--bad:#f0868d}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;-webkit-font-smoothing:antialiased;text-rendering:optimizeLegibility}
main{max-width:760px;margin:0 auto;padding:56px 24px 72px}
header{margin-bottom:36px}
h1{font-size:34px;line-height:1.2;letter-spacing:-.02em;font-weight:680;margin:0 0 10px;text-wrap:balance}
h2{font-size:21px;line-height:1.3;letter-spacing:-.01em;font-weight:650;margin:48px 0 10px}
h3{font-size:17px;font-weight:650;margin:32px 0 8px}
p,ul,ol{margin:0 0 16px}
p{text-wrap:pretty}
li{margin:4px 0}
a{color:var(--accent);text-underline-offset:2px}
.meta{color:var(--muted);font-size:14px;margin:0}
.meta span+span::before{content:"·";margin:0 8px;opacity:.6}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{background:var(--wash);border-radius:4px;padding:.1em .35em}
pre{background:var(--wash);border-radius:8px;padding:14px 16px;overflow-x:auto}
pre code{background:none;padding:0}
blockquote{margin:0 0 16px;padding:2px 0 2px 16px;border-left:3px solid var(--line);color:var(--muted)}
hr{border:0;border-top:1px solid var(--line);margin:40px 0}
figure{margin:24px 0 28px}
figure svg{display:block;width:100%;height:auto;overflow:visible}
.table{overflow-x:auto;margin:20px 0 26px}
table{border-collapse:collapse;width:100%;font-size:14px;line-height:1.4}
th{text-align:left;font-weight:600;color:var(--muted);font-size:12.5px;padding:0 14px 8px;border-bottom:1.5px solid var(--line);white-space:nowrap;vertical-align:bottom}
td{padding:7px 14px;border-bottom:1px solid var(--line);vertical-align:top}
th:first-child,td:first-child{padding-left:0}
th:last-child,td:last-child{padding-right:0}
.n{text-align:right;font-variant-numeric:tabular-nums lining-nums;white-space:nowrap}
.null{color:var(--muted);font-size:.8em;letter-spacing:.04em;opacity:.75}
.rest{color:var(--muted);font-size:13px;margin:0 0 24px}.table+.rest{margin-top:-14px}
.problem{border:1px solid var(--bad);border-radius:8px;padding:12px 16px;margin:20px 0;font-size:14px}
.problem b{color:var(--bad)}
footer{margin-top:64px;padding-top:20px;border-top:1px solid var(--line);font-size:13px;color:var(--muted)}
footer h2{font-size:13px;margin:0 0 4px;color:var(--ink);letter-spacing:0}
footer table{font-size:13px}
footer td,footer th{padding-top:5px;padding-bottom:5px}
footer .id{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
@media (max-width:560px){main{padding:32px 18px 48px}h1{font-size:27px}}
@media print{:root{--paper:#fff;--ink:#000;--muted:#555;--line:#ddd;--wash:#f5f5f5}body{font-size:11pt}main{max-width:none;padding:0}figure,tr,.problem{break-inside:avoid}h2,h3{break-after:avoid}a{color:inherit}}
`.trim()

export interface Page {
  readonly title: string
  /** HTML of the body, already escaped. */
  readonly body: string
  /** Short facts under the title. */
  readonly facts: readonly string[]
  readonly steps: readonly ReportStep[]
  /** Facts at the end, name and value. */
  readonly pins: ReadonlyArray<readonly [name: string, value: string]>
}

/** The whole page: self-contained, without scripts, for screen (light and dark) and paper. */
export function pageHtml(page: Page): string {
  const title = escapeHtml(page.title)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${escapeHtml(CSP)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${title}</title>
<style>${CSS}</style>
</head>
<body>
<main>
<header><h1>${title}</h1><p class="meta">${page.facts.map(fact => `<span>${escapeHtml(fact)}</span>`).join('')}</p></header>
${page.body}
<footer>
<h2>How this was made</h2>
${stepsHtml(page.steps)}
${page.pins.map(([name, value]) => `<div>${escapeHtml(name)} <span class="id">${escapeHtml(value)}</span></div>`).join('\n')}
</footer>
</main>
</body>
</html>
`
}

function stepsHtml(steps: readonly ReportStep[]): string {
  const rows = steps.map(step => {
    const tests = step.tests.length === 0 ? '' : step.tests.map(testHtml).join('<br>')
    const time = step.duration_ms === null ? '' : durationWords(step.duration_ms)
    const count = step.rows === null ? '' : step.rows.toLocaleString('en-US')
    return `<tr><td>${escapeHtml(step.name)}</td><td>${escapeHtml(step.state)}</td><td class="n">${count}</td><td class="n">${time}</td><td>${tests}</td></tr>`
  })
  return `<div class="table"><table><thead><tr><th scope="col">Step</th><th scope="col">State</th><th scope="col" class="n">Rows</th><th scope="col" class="n">Time</th><th scope="col">Tests</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function testHtml(test: ReportStep['tests'][number]): string {
  const label = escapeHtml(test.label)
  if (test.passed) return `<span class="good">✓</span> ${label}`
  const mark = test.severity === 'warn' ? '<span class="warn">!</span>' : '<span class="bad">✗</span>'
  return `${mark} ${label}: ${test.failing_rows.toLocaleString('en-US')} failing`
}

export const durationWords = (ms: number): string => {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  return ms < 60_000
    ? `${(ms / 1_000).toFixed(1)} s`
    : `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`
}

/** `22 Nov 2026, 23:13 UTC` */
export function timeWords(iso: string): string {
  const time = new Date(iso)
  const day = time.toLocaleDateString('en-GB', {
    day: 'numeric',
    month: 'short',
    year: 'numeric',
    timeZone: 'UTC',
  })
  return `${day}, ${time.toISOString().slice(11, 16)} UTC`
}
