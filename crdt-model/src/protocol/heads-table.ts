/** Bytes of an id and of a hash: an entry is a document's id and one of its heads. */
const ID = 16
const HASH = 32
const ENTRY = ID + HASH
/** Entries of a block. One that is full is cut in two. */
const BLOCK = 1_024
/** Entries for which the first block has room at first: most workspaces are small. */
const FIRST = 16
/** Characters of a document's line beside its heads: the id with its dashes, the colon or the commas, the line feed. */
const LINE = 36 + 1 + 2 * HASH + 1

interface Block {
  bytes: Uint8Array
  /** How many entries are in it; the rest of the bytes is free. */
  entries: number
}

/**
 * The heads of many documents, in order of id and then of hash, as bytes in blocks. All entries of a document are in one block,
 * and no block is empty.
 */
export class HeadsTable {
  readonly #blocks: Block[] = []
  /** What `set` was given, as bytes. */
  readonly #key = new Uint8Array(ID)
  #hashes = new Uint8Array(HASH)
  readonly #size: number

  /** @param size entries of a block, default 1,024. */
  constructor(size = BLOCK) {
    this.#size = size
  }

  /** What it takes, in bytes. */
  get bytes(): number {
    return this.#blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

  /** Puts these in place of the document's heads; none takes it out. Throws a `RangeError` for what is no UUID or no hash. */
  set(id: string, heads: readonly string[]): void {
    const key = this.#key
    readId(id, key)
    const hashes = this.#read(heads)
    const added = heads.length
    const at = this.#blockOf(key)
    const block = this.#blocks[at]
    if (!block) {
      if (added > 0) this.#blocks.push(blockOf(key, hashes, Math.min(FIRST, this.#size)))
      return
    }
    const from = firstFrom(block, key)
    let to = from
    while (to < block.entries && compare(block, to, key) === 0) to++
    const entries = block.entries + added - (to - from)
    if (entries > this.#size && entries > block.entries) {
      if (from === block.entries && at === this.#blocks.length - 1) {
        this.#blocks.push(blockOf(key, hashes, this.#size))
        return
      }
      if (this.#cut(at)) {
        this.set(id, heads)
        return
      }
    }
    if (entries === 0) {
      this.#blocks.splice(at, 1)
      return
    }
    if (entries * ENTRY > block.bytes.length) {
      const room = Math.min(this.#size, (2 * block.bytes.length) / ENTRY)
      const bytes = new Uint8Array(Math.max(entries, room) * ENTRY)
      bytes.set(block.bytes.subarray(0, block.entries * ENTRY))
      block.bytes = bytes
    }
    block.bytes.copyWithin((from + added) * ENTRY, to * ENTRY, block.entries * ENTRY)
    write(block.bytes, from, key, hashes)
    block.entries = entries
  }

  /** The digest's lines, in order, in pieces: each is good until the next one is asked for. */
  *lines(): Generator<Uint8Array> {
    let text = new Uint8Array(0)
    for (const { bytes, entries } of this.#blocks) {
      if (text.length < entries * LINE) text = new Uint8Array(entries * LINE)
      let end = 0
      for (let entry = 0; entry < entries; entry++) {
        const at = entry * ENTRY
        if (entry > 0 && sameId(bytes, at - ENTRY, at)) text[end - 1] = COMMA
        else {
          for (const [from, to] of ID_PARTS) {
            if (from > 0) text[end++] = DASH
            end = hex(text, end, bytes, at + from, at + to)
          }
          text[end++] = COLON
        }
        end = hex(text, end, bytes, at + ID, at + ENTRY)
        text[end++] = LINE_FEED
      }
      yield text.subarray(0, end)
    }
  }

  /** The bytes of the heads, in order, until the next call. */
  #read(heads: readonly string[]): Uint8Array {
    if (heads.length * HASH > this.#hashes.length) this.#hashes = new Uint8Array(heads.length * HASH)
    let at = 0
    for (const head of heads.length > 1 ? heads.toSorted() : heads) {
      readHash(head, this.#hashes, at)
      at += HASH
    }
    return this.#hashes.subarray(0, at)
  }

  /** The last block that begins at or before the id; the first one when none does. */
  #blockOf(key: Uint8Array): number {
    let [low, high] = [0, this.#blocks.length - 1]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (compare(this.#blocks[middle]!, 0, key) <= 0) low = middle
      else high = middle - 1
    }
    return low
  }

  /** Cuts a block between two documents, near its middle; false when it is all one document's. */
  #cut(at: number): boolean {
    const block = this.#blocks[at]!
    const { bytes, entries } = block
    const middle = entries >> 1
    for (let away = 0; away <= middle; away++) {
      for (const place of [middle - away, middle + away]) {
        if (place <= 0 || place >= entries || sameId(bytes, (place - 1) * ENTRY, place * ENTRY)) continue
        const behind = new Uint8Array(Math.max(this.#size, entries - place) * ENTRY)
        behind.set(bytes.subarray(place * ENTRY, entries * ENTRY))
        this.#blocks.splice(at + 1, 0, { bytes: behind, entries: entries - place })
        block.entries = place
        return true
      }
    }
    return false
  }
}

function blockOf(key: Uint8Array, hashes: Uint8Array, room: number): Block {
  const entries = hashes.length / HASH
  const bytes = new Uint8Array(Math.max(room, entries) * ENTRY)
  write(bytes, 0, key, hashes)
  return { bytes, entries }
}

function write(bytes: Uint8Array, from: number, key: Uint8Array, hashes: Uint8Array): void {
  let at = from * ENTRY
  for (let hash = 0; hash < hashes.length; hash += HASH) {
    bytes.set(key, at)
    bytes.set(hashes.subarray(hash, hash + HASH), at + ID)
    at += ENTRY
  }
}

/** The first entry of the block whose id is not below the key. */
function firstFrom(block: Block, key: Uint8Array): number {
  // What comes in order of id belongs behind the last one.
  if (compare(block, block.entries - 1, key) < 0) return block.entries
  let [low, high] = [0, block.entries - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if (compare(block, middle, key) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** Below 0 when the entry's id comes before the key, 0 when it is the key. */
function compare({ bytes }: Block, entry: number, key: Uint8Array): number {
  const at = entry * ENTRY
  for (let i = 0; i < ID; i++) {
    const difference = bytes[at + i]! - key[i]!
    if (difference !== 0) return difference
  }
  return 0
}

function sameId(bytes: Uint8Array, one: number, other: number): boolean {
  for (let i = 0; i < ID; i++) if (bytes[one + i] !== bytes[other + i]) return false
  return true
}

/** The bytes of a UUID between its dashes. */
const ID_PARTS = [
  [0, 4],
  [4, 6],
  [6, 8],
  [8, 10],
  [10, 16],
] as const
const [DASH, COLON, COMMA, LINE_FEED] = [0x2d, 0x3a, 0x2c, 0x0a]
const DIGITS = new TextEncoder().encode('0123456789abcdef')

/** Writes the bytes in hex and answers where the text ends. */
function hex(text: Uint8Array, end: number, bytes: Uint8Array, from: number, to: number): number {
  let at = end
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!
    text[at++] = DIGITS[byte >> 4]!
    text[at++] = DIGITS[byte & 15]!
  }
  return at
}

function readId(id: string, into: Uint8Array): void {
  let wrong = id.length ^ 36
  let at = 0
  for (let i = 0; i < 36; i += 2) {
    if (i === 8 || i === 13 || i === 18 || i === 23) wrong |= id.charCodeAt(i++) ^ DASH
    const [high, low] = [valueAt(id, i), valueAt(id, i + 1)]
    wrong |= (high | low) & NO_DIGIT
    into[at++] = (high << 4) | low
  }
  if (wrong !== 0) throw new RangeError(`"${id}" is no UUID`)
}

function readHash(hash: string, into: Uint8Array, at: number): void {
  let wrong = hash.length ^ (2 * HASH)
  for (let i = 0; i < HASH; i++) {
    const [high, low] = [valueAt(hash, 2 * i), valueAt(hash, 2 * i + 1)]
    wrong |= (high | low) & NO_DIGIT
    into[at + i] = (high << 4) | low
  }
  if (wrong !== 0) throw new RangeError(`"${hash}" is no hash`)
}

const valueAt = (text: string, at: number): number => VALUES[text.charCodeAt(at)] ?? NO_DIGIT
const NO_DIGIT = 16
/** What a hex digit stands for, by its character. */
const VALUES = new Uint8Array(128).fill(NO_DIGIT)
for (const digits of ['0123456789abcdef', '0123456789ABCDEF'])
  for (const [value, digit] of [...digits].entries()) VALUES[digit.charCodeAt(0)] = value
