// The daemon as this page sees it: questions, its events, and how to find it again after it was gone.

const RETRY_MS = 1000;
const SILENT_MS = 20000; // it says at least every half second how it is

/** What the daemon told went wrong; `message` what happened, `hint` what to do. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail?.message ?? `the answer was ${status}`);
    this.status = status;
    this.hint = detail?.hint ?? "";
  }
}

export async function ask(method, path, body, pending = () => {}) {
  const options = { method, headers: body === undefined ? {} : { "Content-Type": "application/json" } };
  if (body !== undefined) options.body = JSON.stringify(body);
  const response = await fetch(path, options);
  const told = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, told?.detail);
  if (response.status === 202) pending();
  return told;
}

let pageKey = "";

/** Kept in memory alone: with it the page proves to the next daemon that it was let in, without ever sending it. */
async function learnPageKey() {
  pageKey = (await ask("GET", "/v1/page-key")).key;
}

async function resume() {
  const nonce = `${Date.now()}-${crypto.randomUUID()}`;
  const bytes = (text) => new TextEncoder().encode(text);
  const key = await crypto.subtle.importKey("raw", bytes(pageKey), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const port = location.port || "80";
  const sign = new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(`${port} ${nonce}`)));
  const proof = [...sign].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  await ask("POST", "/resume", { nonce, proof });
}

/**
 * Keeps listening while the page can be seen. `tell(name, value)` gets every event; `found()` and `lost(reason)` say
 * whether somebody is there: reason "gone" may mend itself, "locked" needs a new link.
 */
export function listen(tell, found, lost) {
  let source = null;
  let timer = 0;
  let watchdog = 0;

  function stop() {
    clearTimeout(timer);
    clearTimeout(watchdog);
    source?.close();
    source = null;
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
    try {
      await letIn();
    } catch (error) {
      if (error instanceof Refused && error.status === 401) return lost("locked");
      return broken();
    }
    source = new EventSource("/v1/events?every=0.5");
    source.onerror = broken;
    source.onopen = () => { alive(); found(); };
    for (const name of ["status", "settings", "builds", "enrolment"]) {
      source.addEventListener(name, (event) => { alive(); tell(name, JSON.parse(event.data)); });
    }
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  start();
}

async function letIn() {
  try {
    await learnPageKey();
  } catch (error) {
    if (!(error instanceof Refused && error.status === 401 && pageKey)) throw error;
    await resume();
    await learnPageKey();
  }
}
