// Who this page is to the daemon. Session and key live in this module's memory alone: a cookie would go to every other
// server on this computer, and what a browser stores could be read by a program that listens on this port later.

let own = given();

/** What the daemon told went wrong; `message` what happened, `hint` what to do. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail?.message ?? `the answer was ${status}`);
    this.status = status;
    const { hint = "", code = "", values = {} } = detail ?? {};
    Object.assign(this, { hint, code, values });
  }
}

/** The session that came with the page when a link opened it; null after a reload. */
function given() {
  const told = document.querySelector("meta[name=session]");
  history.replaceState(null, "", "/");
  const found = told.content ? JSON.parse(told.content) : null;
  told.remove();
  return found;
}

/** fetch() in this page's name. */
export function request(path, options = {}) {
  const headers = own ? { ...options.headers, Authorization: `Bearer ${own.session}` } : options.headers;
  return fetch(path, { ...options, headers });
}

/** The answer as an object. `pending` is called where what was asked for still goes on. Throws Refused. */
export async function ask(method, path, body, pending = () => {}) {
  const options = { method, headers: {} };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) Object.assign(options, { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const response = await request(path, options);
  if (!response.ok) throw await refused(response);
  if (response.status === 202) pending();
  return response.json();
}

async function refused(response) {
  const told = await response.json().catch(() => null);
  return new Refused(response.status, told?.detail);
}

/** A stream's chunks. Where the session is not known any more, it is renewed first. Throws Refused. */
export async function stream(path, signal) {
  let response = await request(path, { signal });
  if (response.status === 401 && own) {
    await renew();
    response = await request(path, { signal });
  }
  if (!response.ok) throw await refused(response);
  return chunks(response.body.getReader());
}

async function* chunks(reader) {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

let renewing = null;

/** A new session and key, of this daemon or the next, which proves as well that it is the one. Throws Refused. */
export function renew() {
  renewing ??= prove().finally(() => (renewing = null)); // requests until then wait for the same one
  return renewing;
}

async function prove() {
  const { challenge } = await ask("GET", "/resume");
  const asked = `${location.port || "80"} ${challenge}`;
  const { session, id, key, proof } = await ask("POST", "/resume", { id: own.id, challenge, proof: await sign(asked) });
  if (proof !== (await sign(`daemon ${asked}`))) throw new Error("another program listens where the daemon did");
  own = { session, id, key };
}

async function sign(text) {
  const bytes = (told) => new TextEncoder().encode(told);
  const key = await crypto.subtle.importKey("raw", bytes(own.key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signed = new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(text)));
  return [...signed].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
