/**
 * The content security policy of the app's page, the same from `pluto serve` and in Electron: nothing remote, no inline
 * script. WebAssembly is Automerge; inline styles are CodeMirror's, the panes' and a report's (a report shows in a frame
 * without scripts, which inherits this policy).
 */
export const PAGE_CSP = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self' 'unsafe-inline'",
  "font-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "frame-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')
