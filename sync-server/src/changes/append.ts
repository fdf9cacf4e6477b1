import { DEFAULT_LIMITS } from './admission/limits.ts'
import type { Appended, AppenderOptions, Push } from './push.ts'
import { DEFAULT_WORKSPACE_LIMITS } from './usage.ts'
import { WorkspaceLane } from './workspace-lane.ts'

export type * from './push.ts'

/**
 * Appends to change logs: structure, right, trial, commit (rules LOG1 to LOG12 of SPEC.md).
 *
 * Pushes to one workspace that wait at the same time share a transaction; other workspaces do not wait for them. Any number
 * of servers may append to one workspace: whoever finds that others did meanwhile reads their changes and decides again.
 */
export class Appender {
  private readonly options: Required<AppenderOptions>
  /** In order of last use. */
  private readonly lanes = new Map<string, WorkspaceLane>()

  constructor(options: AppenderOptions) {
    this.options = {
      now: () => new Date(),
      limits: DEFAULT_LIMITS,
      workspaceLimits: DEFAULT_WORKSPACE_LIMITS,
      maxWaitingBytes: 32 * 1024 * 1024,
      onCommit: () => {},
      onCorrupt: () => {},
      maxIndexedOps: 4_000_000,
      maxWorkspaces: 200,
      ...options,
    }
  }

  /** Answers after the commit. A refusal is a verdict; what is thrown (no database) means that nothing is known to be stored. */
  append(push: Push): Promise<Appended> {
    const lane = this.lanes.get(push.workspaceId) ?? new WorkspaceLane(push.workspaceId, this.options)
    this.lanes.delete(push.workspaceId)
    this.lanes.set(push.workspaceId, lane)
    const answer = lane.append(push)
    for (const [id, oldest] of this.lanes) {
      if (this.lanes.size <= this.options.maxWorkspaces) break
      if (oldest.idle) this.lanes.delete(id)
    }
    return answer
  }

  /** Reads the document again before the next change to it, because its record changed beside the log. */
  forget(workspaceId: string, documentId: string): void {
    this.lanes.get(workspaceId)?.forget(documentId)
  }
}
