import { PLACEHOLDERS } from './chart-theme.ts'

const ELEMENTS = new Set(
  'svg g path rect line circle ellipse polygon polyline text tspan title defs clipPath linearGradient radialGradient stop pattern'.split(
    ' ',
  ),
)
const ATTRIBUTES = new Set(
  `class viewBox width height x y x1 y1 x2 y2 cx cy r rx ry fx fy d points transform fill fill-opacity fill-rule stroke stroke-width
  stroke-opacity stroke-dasharray stroke-dashoffset stroke-linecap stroke-linejoin stroke-miterlimit opacity font-family font-size
  font-style font-weight text-anchor dominant-baseline dx dy id clip-path offset stop-color stop-opacity gradientUnits
  gradientTransform patternUnits role aria-label aria-roledescription aria-hidden xmlns version`.split(/\s+/),
)
const TOKEN = /<(\/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"]*")*)\s*(\/?)>|([^<]+)|</g
const ATTRIBUTE = /([\w:-]+)="([^"]*)"/g

/**
 * Keeps the shapes and texts of an SVG and nothing else: no script, style, link, image, foreign content or handler, and no
 * reference outside the SVG itself. What is not on the list is dropped. Ids are prefixed, so that charts on one page do not
 * take each other's clips; the width gives way to the page.
 */
export function cleanSvg(svg: string, prefix: string): string {
  let out = ''
  // What a dropped element holds is dropped with it.
  let dropped: string[] = []
  for (const [token, closing, name, attributes, selfClosing, text] of svg.matchAll(TOKEN)) {
    if (name === undefined) {
      if (dropped.length === 0) out += text ?? ''
      continue
    }
    if (dropped.length > 0 || !ELEMENTS.has(name)) {
      if (closing) dropped = dropped.slice(0, Math.max(0, dropped.lastIndexOf(name)))
      else if (!selfClosing) dropped = [...dropped, name]
      continue
    }
    out += closing
      ? token
      : `<${name}${cleanAttributes(name, attributes ?? '', prefix)}${selfClosing ? '/' : ''}>`
  }
  return out
}

function cleanAttributes(element: string, attributes: string, prefix: string): string {
  let kept = ''
  for (const [, name = '', value = ''] of attributes.matchAll(ATTRIBUTE)) {
    if (!ATTRIBUTES.has(name)) continue
    if (element === 'svg' && (name === 'width' || name === 'height')) continue
    const local = localValue(name, value, prefix)
    if (local !== null) kept += ` ${name}="${local}"`
  }
  return kept
}

/** Null when the value reaches outside the SVG. */
function localValue(name: string, value: string, prefix: string): string | null {
  if (name === 'id') return `${prefix}${value}`
  const placeholder = PLACEHOLDERS[value.toLowerCase() as keyof typeof PLACEHOLDERS]
  if (placeholder) return placeholder
  const reference = /^url\((?:&quot;|['"])?#([\w-]+)(?:&quot;|['"])?\)$/.exec(value)
  if (reference) return `url(#${prefix}${reference[1]})`
  if (name === 'aria-label' || name === 'class') return value
  return /url\s*\(|javascript:|data:|expression\s*\(|@import|\\/i.test(value) ? null : value
}
