#!/usr/bin/env node
import { enableCompileCache } from 'node:module'
import { codeCacheFolder } from '../src/state/folder.ts'

// Before anything large is loaded: what was compiled once is taken from there at the next start. Without it all goes on, slower.
enableCompileCache(codeCacheFolder())
const { main } = await import('../src/cli/main.ts')

process.exitCode = await main(process.argv.slice(2))
