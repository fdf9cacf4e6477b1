export { ScheduleAgent, type ScheduleAgentParts } from './agent.ts'
