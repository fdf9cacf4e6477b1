/** Limits of the wire. Both sides know them, so that a client can refuse early with the same words. */
export const LIMITS = {
  /** Bytes of one change. A larger paste is cut into several changes by the client. */
  changeBytes: 256 * 1024,
  /** Operations of one change (FACTS: memory and time grow with operations, not bytes). */
  changeOps: 50_000,
  /** Changes in one push, and bytes of its body. */
  pushChanges: 2_000,
  pushBytes: 8 * 1024 * 1024,
  /** Bytes of an append's packs and bundles, unpacked. */
  packBytes: 16 * 1024 * 1024,
  /** Changes in one page of the log. */
  logPage: 5_000,
  /** Bytes of a chunk of a run's log. */
  logChunkBytes: 1024 * 1024,
  /** Seconds that `wait` may hold a read open. */
  waitSeconds: 30,
  /** Bytes of one artifact in a single PUT. */
  artifactBytes: 5 * 1024 * 1024 * 1024,
  messageChars: 10_000,
} as const
