/** The port to what turns a page into text: encodings and HTML need more than the language has. */
import { Context, type Effect, type Option, Schema } from "effect"

export class BadSelector extends Schema.TaggedError<BadSelector>()("BadSelector", {
  selector: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `"${this.selector}" is no CSS selector that can be used (${this.why}). Correct it, or leave it out.`
  }
}

export interface Reading {
  /** Empty when the page has none. */
  readonly title: string
  readonly markdown: string
  /** How many elements the selector fitted; 1 without a selector. */
  readonly found: number
  /** Whether something at the end was left out, because the page is too large or nested too deep. */
  readonly isCut: boolean
}

export class PageReader extends Context.Service<PageReader, {
  /** Bytes as text; none when the encoding's name is not known here. Damaged bytes become replacement marks. */
  readonly decode: (bytes: Uint8Array, encoding: string) => Option.Option<string>
  /**
   * HTML as Markdown: what the selector fits, else the main content. Links become absolute. Gives way to other work
   * while it reads, and reads any page to its end in time that grows with its length.
   */
  readonly toMarkdown: (
    html: string,
    options: { readonly base: string; readonly selector: string | undefined }
  ) => Effect.Effect<Reading, BadSelector>
}>()("orchestrator/host/PageReader") {}
