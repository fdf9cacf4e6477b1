/** Waits until `done` answers true, looking every millisecond; rejects after `ms`. */
export async function until(done, ms = 60_000, every = 1) {
  const started = performance.now()
  while (!(await done())) {
    if (performance.now() - started > ms) throw new Error('it does not come to an end')
    await new Promise(resolve => setTimeout(resolve, every))
  }
}
