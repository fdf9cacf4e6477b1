import { readFileSync } from 'node:fs'
import ts from 'typescript'

/** What one source file says about its surroundings. */
export interface ScannedFile {
  /** From the repository's root, with forward slashes. */
  readonly path: string
  readonly imports: readonly Import[]
  /** Global names of one platform (`process`, `window`, …) that the code reads. */
  readonly platformGlobals: readonly { readonly name: string; readonly line: number }[]
}

export interface Import {
  /** As written: `./plan.ts`, `node:fs`, `@pluto-duck/engine/contract`, `zod`. */
  readonly specifier: string
  readonly line: number
}

const platformNames = new Set([
  'Buffer',
  '__dirname',
  '__filename',
  'localStorage',
  'navigator',
  'process',
  'require',
  'sessionStorage',
  'window',
])

export function scanFile(root: string, path: string): ScannedFile {
  return scanText(path, readFileSync(`${root}/${path}`, 'utf8'))
}

/** Reads TypeScript, Svelte (its scripts) and CSS (its `@import`, `@plugin` and `@source` rules). */
export function scanText(path: string, text: string): ScannedFile {
  if (path.endsWith('.css')) return { path, imports: scanCss(text), platformGlobals: [] }
  const source = path.endsWith('.svelte') ? svelteScripts(text) : text
  const tree = ts.createSourceFile(path, source, ts.ScriptTarget.Latest, false, ts.ScriptKind.TS)
  const lineOf = (position: number) => tree.getLineAndCharacterOfPosition(position).line + 1
  const imports: Import[] = []
  const platformGlobals: { name: string; line: number }[] = []
  const visit = (node: ts.Node): void => {
    const imported = importedBy(node)
    if (imported !== undefined) {
      imports.push({ specifier: imported.text, line: lineOf(imported.end) })
    }
    const subject =
      ts.isPropertyAccessExpression(node) || ts.isCallExpression(node) ? node.expression : undefined
    if (subject !== undefined && ts.isIdentifier(subject) && platformNames.has(subject.text)) {
      platformGlobals.push({ name: subject.text, line: lineOf(subject.pos) })
    }
    ts.forEachChild(node, visit)
  }
  visit(tree)
  return { path, imports, platformGlobals }
}

/** What `import … from`, `export … from`, `import()` and an import type name, when it is a literal. */
function importedBy(node: ts.Node): ts.StringLiteralLike | undefined {
  let named: ts.Node | undefined
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) named = node.moduleSpecifier
  else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) named = node.argument.literal
  else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    named = node.arguments[0]
  }
  return named !== undefined && ts.isStringLiteralLike(named) ? named : undefined
}

/** The scripts of a component with everything else blanked out, so that line numbers stay. */
function svelteScripts(text: string): string {
  const blank = (part: string) => part.replace(/[^\n]/g, ' ')
  let result = ''
  let end = 0
  for (const match of text.matchAll(/(<script\b[^>]*>)([\s\S]*?)<\/script>/g)) {
    const start = match.index + match[1]!.length
    result += blank(text.slice(end, start)) + match[2]!
    end = start + match[2]!.length
  }
  return result + blank(text.slice(end))
}

function scanCss(text: string): Import[] {
  const lines = text.split('\n')
  return lines.flatMap((line, index) => {
    const match = /@(?:import|plugin|config)\s+(?:url\()?['"]([^'"]+)['"]/.exec(line)
    return match === null ? [] : [{ specifier: match[1]!, line: index + 1 }]
  })
}
