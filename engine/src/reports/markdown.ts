import MarkdownIt from 'markdown-it'
import { escapeHtml } from './cells.ts'

const markdown = new MarkdownIt({ html: false, linkify: false, typographer: true })

// An image is a request to somewhere: its words are kept, it is not.
markdown.renderer.rules.image = (tokens, index) => `<em>${escapeHtml(tokens[index]?.content ?? '')}</em>`
markdown.validateLink = url => /^(https?:|mailto:|#)/i.test(url.trim())
markdown.renderer.rules.link_open = (tokens, index, options, _env, self) => {
  tokens[index]?.attrSet('rel', 'noopener noreferrer')
  return self.renderToken(tokens, index, options)
}

/** Markdown of a report as HTML: raw HTML is shown as text, images as their words, links only to the web and to mail. */
export const markdownHtml = (text: string): string => markdown.render(text)
