/** What the preload script puts on the page as `window.pluto`: nothing of Electron or Node. */
export interface PlutoWindow {
  /** Answers a `Result`, never rejects. */
  call(method: string, input: unknown): Promise<unknown>
  /** `{topic, event}` of the contract. */
  onEvent(listener: (event: unknown) => void): void
  onConnection(listener: (connected: boolean) => void): void
}
