/** The tabs of a pipeline. */
export const TABS = ['build', 'runs', 'report', 'history', 'discuss'] as const
export type Tab = (typeof TABS)[number]

export type Route =
  | { readonly at: 'home' }
  | { readonly at: 'reports' }
  | { readonly at: 'schedules' }
  | { readonly at: 'machine' }
  | { readonly at: 'drafts'; readonly draft: string | null }
  /** `detail` is the step, run, pair of versions (`3..working`) or thread that is looked at. */
  | { readonly at: 'pipeline'; readonly pipeline: string; readonly tab: Tab; readonly detail: string | null }

/** The address of a route; `#` addresses survive a reload and need nothing from the server. */
export function addressOf(route: Route): string {
  if (route.at === 'home') return '#/'
  if (route.at === 'drafts') return route.draft ? `#/drafts/${route.draft}` : '#/drafts'
  if (route.at !== 'pipeline') return `#/${route.at}`
  const detail = route.detail ? `/${encodeURIComponent(route.detail)}` : ''
  return `#/p/${route.pipeline}/${route.tab}${detail}`
}

/** The route of an address; what it does not know is home. */
export function routeOf(hash: string): Route {
  const [first, second, third, ...rest] = hash.replace(/^#\/?/, '').split('/')
  if (first === 'p' && second) {
    const tab = TABS.find(name => name === third) ?? 'build'
    const detail = rest.length > 0 ? decodeURIComponent(rest.join('/')) : null
    return { at: 'pipeline', pipeline: second, tab, detail: detail || null }
  }
  if (first === 'drafts') return { at: 'drafts', draft: second || null }
  if (first === 'reports' || first === 'schedules' || first === 'machine') return { at: first }
  return { at: 'home' }
}

/** Where the app is, as the address bar says. */
export class Router {
  current = $state<Route>(routeOf(location.hash))
  private readonly listen = (): void => {
    this.current = routeOf(location.hash)
  }

  constructor() {
    addEventListener('hashchange', this.listen)
  }

  go(route: Route): void {
    location.hash = addressOf(route)
  }

  /** Changes the address without a step in the browser's history. */
  replace(route: Route): void {
    history.replaceState(history.state, '', addressOf(route))
    this.current = route
  }

  close(): void {
    removeEventListener('hashchange', this.listen)
  }
}
