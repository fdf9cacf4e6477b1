// Checks the arrows between the packages and undeclared dependencies: part of `npm run check`.
import { resolve } from 'node:path'
import { checkImports, unusedDependencies } from './imports/rules.ts'
import { readTree } from './imports/tree.ts'

const { files, manifests } = readTree(resolve(import.meta.dirname, '..'))
const problems = checkImports(files, manifests)
for (const { path, line, message } of problems) console.error(`${path}:${line}: ${message}`)
const unused = unusedDependencies(files, manifests)
if (process.argv.includes('--unused')) for (const warning of unused) console.log(`warning: ${warning}`)
else if (unused.length > 0) {
  console.log(`warning: ${unused.length} declared dependencies are imported nowhere (--unused lists them)`)
}
console.log(
  `imports: ${files.length} files, ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}`,
)
process.exitCode = problems.length === 0 ? 0 : 1
