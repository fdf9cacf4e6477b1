import { fileURLToPath } from 'node:url'
import { type BuildOptions, build } from 'esbuild'

/** Bundles Electron's main and preload scripts to `dist/`; the renderer is Vite's. A sandboxed preload must be CommonJS. */
const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const shared: BuildOptions = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  external: ['electron'],
  logLevel: 'warning',
}

await Promise.all([
  build({ ...shared, entryPoints: [at('main/main.ts')], outfile: at('dist/main/main.js'), format: 'esm' }),
  build({
    ...shared,
    entryPoints: [at('preload/preload.ts')],
    outfile: at('dist/preload/preload.cjs'),
    format: 'cjs',
  }),
])
