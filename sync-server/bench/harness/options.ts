/** The number given as `--name=N`, or null: for a part of a measurement that takes long as a whole. */
export function numberGiven(name: string): number | null {
  const found = process.argv.find(argument => argument.startsWith(`--${name}=`))
  if (found === undefined) return null
  const value = Number(found.slice(name.length + 3))
  if (!Number.isFinite(value) || value <= 0) throw new Error(`--${name} takes a number above 0`)
  return value
}
