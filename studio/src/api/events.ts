/** Server-sent events (WHATWG HTML, section 9.2) of a response that is being read. */

/** The data of each event, as it comes. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      held += decoder.decode(value, { stream: !done });
      let end: number;
      while ((end = held.search(/\r?\n\r?\n/)) >= 0) {
        const event = held.slice(0, end);
        held = held.slice(end).replace(/^\r?\n\r?\n/, "");
        const data = event
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).replace(/^ /, ""));
        if (data.length) yield data.join("\n");
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
