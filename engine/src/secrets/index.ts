export { openSecrets, type SecretOptions, type SecretStore } from './secret-store.ts'
