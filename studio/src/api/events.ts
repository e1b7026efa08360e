/** Server-sent events (WHATWG HTML, section 9.2) of a response that is being read. */

/** The data of each event, as it comes. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let data: string[] = [];
  // A line may come in very many parts, so parts are joined once it is whole.
  let parts: string[] = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const text = decoder.decode(value, { stream: !done });
      let from = 0;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
        parts.push(text.slice(from, end));
        from = end + 1;
        const line = parts.join("").replace(/\r$/, "");
        parts = [];
        if (line === "") {
          if (data.length) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
      if (from < text.length) parts.push(text.slice(from));
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
