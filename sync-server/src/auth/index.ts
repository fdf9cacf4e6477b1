export { Access, type FindSession } from './access.ts'
export { type Auth, createAuth, findSession } from './auth.ts'
export { identityFeature } from './feature.ts'
export { AuthGateway } from './gateway.ts'
export {
  assertAddress,
  endOwnerLinks,
  findInvitation,
  firstOwnerToken,
  INVITATION_DAYS,
  newToken,
  useInvitation,
} from './invitations.ts'
export { pagesRouter } from './pages.ts'
export { authRouter } from './router.ts'
