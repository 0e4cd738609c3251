// The daemon as this page sees it: its events, and how to find it again after it was gone.
import { Refused, renew, stream } from "./session.js";

const RETRY_MS = 1000;
const SILENT_MS = 20000; // it says at least every half second how it is
const RENEW_MS = 3600 * 1000;

/**
 * Keeps listening while the page can be seen. `tell(name, value)` gets every event; `found()` and `lost(reason)` say
 * whether a daemon answers: reason "gone" may pass by itself, "locked" needs a new link.
 */
export function listen(tell, found, lost) {
  let reading = null;
  let timer = 0;
  let watchdog = 0;

  function stop() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    reading?.abort();
    reading = null;
  }

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(broken, SILENT_MS);
  }

  function broken() {
    stop();
    lost("gone");
    timer = setTimeout(start, RETRY_MS);
  }

  async function start() {
    stop();
    if (document.hidden) return;
    const { signal } = (reading = new AbortController());
    try {
      const chunks = await stream("/v1/events?every=0.5", signal);
      found();
      alive();
      for await (const [name, value] of events(chunks)) {
        alive();
        tell(name, value);
      }
      if (!signal.aborted) broken();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 401) {
        stop();
        lost("locked");
      } else broken();
    }
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  setInterval(() => reading && renew().catch(() => {}), RENEW_MS); // what is wrong shows with the events
  start();
}

/** Names and values of server-sent events, as the daemon writes them; comments only say that it is alive. */
async function* events(chunks) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of chunks) {
    text += decoder.decode(chunk, { stream: true });
    const whole = text.split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const told = event.match(/^event: (.*)\ndata: (.*)$/);
      if (told) yield [told[1], JSON.parse(told[2])];
    }
  }
}
