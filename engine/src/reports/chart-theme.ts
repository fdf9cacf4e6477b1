/**
 * How charts look. Colours of text and lines are placeholders, which become the page's CSS variables, so one SVG serves light
 * and dark; colours of marks are chosen to hold on both.
 */
export const PLACEHOLDERS = {
  '#0a0b01': 'var(--ink)',
  '#0a0b02': 'var(--muted)',
  '#0a0b03': 'var(--line)',
  '#0a0b04': 'var(--paper)',
} as const

const [INK, MUTED, LINE, PAPER] = Object.keys(PLACEHOLDERS) as [string, string, string, string]
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'

const CATEGORIES = ['#3d7edb', '#e08a3c', '#2c9f7a', '#c9577f', '#8b70d6', '#b3962b', '#45a4b8', '#a06f52']
const RAMP = ['#c9def5', '#9cc3ec', '#6aa3e0', '#3d7edb', '#2a5fb4', '#1f4588']

export const CHART_WIDTH = 680
export const CHART_HEIGHT = 280

export const CHART_CONFIG = {
  background: 'transparent',
  font: FONT,
  padding: 4,
  view: { stroke: 'transparent', continuousWidth: CHART_WIDTH, continuousHeight: CHART_HEIGHT },
  title: {
    color: INK,
    fontSize: 14,
    fontWeight: 600,
    anchor: 'start',
    offset: 14,
    subtitleColor: MUTED,
    subtitleFontSize: 12,
  },
  axis: {
    labelColor: MUTED,
    labelFontSize: 11,
    titleColor: MUTED,
    titleFontSize: 11,
    titleFontWeight: 500,
    titlePadding: 10,
    labelPadding: 6,
    domainColor: LINE,
    tickColor: LINE,
    tickSize: 4,
    gridColor: LINE,
    gridOpacity: 0.7,
    labelOverlap: true,
  },
  axisX: { grid: false },
  axisY: { domain: false, ticks: false },
  legend: {
    labelColor: MUTED,
    labelFontSize: 11,
    titleColor: MUTED,
    titleFontSize: 11,
    titleFontWeight: 500,
    symbolType: 'circle',
    symbolOpacity: 1,
    orient: 'top',
  },
  header: { labelColor: MUTED, titleColor: MUTED, labelFontSize: 11, titleFontSize: 11 },
  range: { category: CATEGORIES, ordinal: RAMP, ramp: RAMP, heatmap: RAMP },
  mark: { color: CATEGORIES[0] },
  bar: { cornerRadiusEnd: 2 },
  line: { strokeWidth: 2, strokeJoin: 'round', strokeCap: 'round' },
  area: { opacity: 0.85 },
  point: { filled: true, size: 40 },
  arc: { stroke: PAPER, strokeWidth: 1.5 },
  rule: { color: MUTED },
  text: { color: INK, fontSize: 11 },
} as const
