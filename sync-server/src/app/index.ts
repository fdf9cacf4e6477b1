export { type Clock, type ServerContext, systemClock } from './context.ts'
export { EventBus } from './event-bus.ts'
export {
  ANSWERED,
  type Answer,
  type Call,
  Created,
  created,
  type Feature,
  type Handle,
  type Implementation,
  implement,
  type Membership,
  type Session,
} from './implement.ts'
export { type RunningServer, type StartOptions, startServer } from './server.ts'
