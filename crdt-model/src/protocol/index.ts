import { auditRoutes } from './audit.ts'
import { changeRoutes } from './changes.ts'
import { draftRoutes } from './drafts.ts'
import { identityRoutes } from './identity.ts'
import type { Route } from './route.ts'
import { runRoutes } from './runs.ts'
import { scheduleRoutes } from './schedules.ts'
import { serviceRoutes } from './service.ts'
import { versionRoutes } from './versions.ts'

export * from './audit.ts'
export * from './bundle.ts'
export * from './changes.ts'
export * from './digest.ts'
export * from './drafts.ts'
export * from './frames.ts'
export * from './identity.ts'
export * from './ids.ts'
export * from './limits.ts'
export * from './log-line.ts'
export * from './roles.ts'
export * from './route.ts'
export * from './runs.ts'
export * from './schedules.ts'
export * from './service.ts'
export * from './version.ts'
export * from './versions.ts'
export * from './void.ts'

/** Every route of the server. */
export const ROUTES: readonly Route[] = [
  identityRoutes,
  changeRoutes,
  versionRoutes,
  draftRoutes,
  runRoutes,
  scheduleRoutes,
  auditRoutes,
  serviceRoutes,
].flatMap(group => Object.values(group))
