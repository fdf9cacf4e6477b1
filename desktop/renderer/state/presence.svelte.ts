import type { TopicEvent } from '@pluto-duck/engine/contract'
import type { App } from './app.svelte.ts'

export interface Colleague {
  readonly deviceId: string
  readonly name: string
  /** `step:<id>:<position>` or null. */
  readonly at: string | null
}
const SAY_MS = 300
const REPEAT_MS = 20_000

/** Who else looks at this document now, and where; says where this window is, at most a few times a second. */
export class PresenceState {
  colleagues = $state.raw<Colleague[]>([])
  private readonly app: App
  private readonly documentId: string
  private at: string | null = null
  private timer: ReturnType<typeof setTimeout> | null = null
  private readonly repeat: ReturnType<typeof setInterval>
  private readonly stop: () => void

  constructor(app: App, documentId: string) {
    this.app = app
    this.documentId = documentId
    this.stop = app.bridge.on('document.presence', event => this.hear(event))
    this.repeat = setInterval(() => this.send(), REPEAT_MS)
    this.say(null)
  }

  say(at: string | null): void {
    this.at = at
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.send()
    }, SAY_MS)
  }

  private send(): void {
    void this.app.call('document.presence', { document_id: this.documentId, at: this.at })
  }

  private hear(event: TopicEvent<'document.presence'>): void {
    const others = this.colleagues.filter(colleague => colleague.deviceId !== event.device_id)
    const here =
      !event.left && event.document_id === this.documentId && event.device_id !== this.app.info?.device_id
    this.colleagues = here
      ? [...others, { deviceId: event.device_id, name: event.name, at: event.at }]
      : others
  }

  close(): void {
    this.stop()
    clearInterval(this.repeat)
    if (this.timer) clearTimeout(this.timer)
    void this.app.call('document.presence', { document_id: null, at: null })
  }
}
