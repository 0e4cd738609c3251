// Before and after: the stream of pictures on two canvases, one above the other, and the divider between them.
import { onWords, t } from "./texts.js";
import { request, stream } from "./session.js";

const SEAM = new Uint8Array([13, 10, 13, 10]);
const RETRY_MS = 1000;

const picture = document.getElementById("picture");
const canvases = Object.fromEntries(["before", "after", "outline"].map((id) => [id, document.getElementById(id)]));
const divider = document.getElementById("divider");
const outlined = document.getElementById("outlined");
let outlines = [];
let watching = null;

/** Watches while the page can be seen and the daemon is there. */
export function watch(on) {
  watching?.abort();
  watching = null;
  if (on && !document.hidden) {
    watching = new AbortController();
    keepReading(watching.signal);
  }
}

async function keepReading(signal) {
  while (!signal.aborted) {
    try {
      for await (const part of parts(await stream("/v1/preview?view=both", signal))) await show(part);
    } catch {
      // aborted, or the daemon is gone: the listener of its events says so
    }
    if (!signal.aborted) await new Promise((go) => setTimeout(go, RETRY_MS));
  }
}

/** The parts of a multipart stream; each names its length. */
async function* parts(chunks) {
  let buffer = new Uint8Array(0);
  const more = async () => {
    const { done, value } = await chunks.next();
    if (done) return false;
    const joined = new Uint8Array(buffer.length + value.length);
    joined.set(buffer);
    joined.set(value, buffer.length);
    buffer = joined;
    return true;
  };
  for (;;) {
    let end;
    while ((end = find(buffer, SEAM)) < 0) if (!(await more())) return;
    const head = new TextDecoder().decode(buffer.subarray(0, end));
    const headers = Object.fromEntries([...head.matchAll(/^([\w-]+): (.*)\r?$/gm)].map(([, name, value]) => [name, value]));
    const start = end + SEAM.length;
    const length = Number(headers["Content-Length"]);
    while (buffer.length < start + length + 2) if (!(await more())) return;
    yield { headers, jpeg: new Blob([buffer.slice(start, start + length)], { type: "image/jpeg" }) };
    buffer = buffer.slice(start + length + 2);
  }
}

function find(bytes, wanted) {
  for (let at = bytes.indexOf(wanted[0]); at >= 0; at = bytes.indexOf(wanted[0], at + 1)) {
    if (wanted.every((byte, index) => bytes[at + index] === byte)) return at;
  }
  return -1;
}

async function show({ headers, jpeg }) {
  const bitmap = await createImageBitmap(jpeg);
  const halves = Number(headers["X-Halves"]);
  const [width, height] = [bitmap.width, bitmap.height / halves];
  for (const canvas of Object.values(canvases)) {
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  }
  picture.style.aspectRatio = `${width} / ${height}`;
  canvases.before.getContext("2d").drawImage(bitmap, 0, 0, width, height, 0, 0, width, height);
  canvases.after.getContext("2d").drawImage(bitmap, 0, (halves - 1) * height, width, height, 0, 0, width, height);
  const thumb = document.getElementById("thumb");
  thumb.height = Math.round((thumb.width * height) / width);
  thumb.getContext("2d").drawImage(canvases.before, 0, 0, thumb.width, thumb.height);
  bitmap.close();
  outlines = JSON.parse(headers["X-Outlines"]);
  drawOutlines();
  delete picture.dataset.empty;
  picture.dataset.number = headers["X-Number"];
  picture.dataset.halves = halves;
}

function drawOutlines() {
  const { width, height } = canvases.outline;
  const pen = canvases.outline.getContext("2d");
  pen.clearRect(0, 0, width, height);
  if (!outlined.checked) return;
  pen.lineJoin = "round";
  for (const [colour, thickness] of [["#000a", 4], ["#4fd1c1", 2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = (thickness * width) / 960;
    for (const rim of outlines) {
      pen.beginPath();
      for (const [x, y] of rim) pen.lineTo(x * width, y * height);
      pen.closePath();
      pen.stroke();
    }
  }
}

function place(share) {
  const at = Math.min(100, Math.max(0, share));
  picture.style.setProperty("--at", `${at}%`);
  divider.setAttribute("aria-valuenow", String(Math.round(at)));
  divider.setAttribute("aria-valuetext", t("see.at", { n: Math.round(at), m: 100 - Math.round(at) }));
  for (const [side, gone] of [["left", at < 12], ["right", at > 88]]) {
    picture.querySelector(`.tag.${side}`).style.opacity = gone ? 0 : 1;
  }
  return at;
}

let at = 50;
onWords(() => place(at));

function drag(event) {
  const box = picture.getBoundingClientRect();
  at = place((100 * (event.clientX - box.left)) / box.width);
}

picture.addEventListener("pointerdown", (event) => {
  picture.setPointerCapture(event.pointerId);
  divider.focus({ preventScroll: true });
  drag(event);
});
picture.addEventListener("pointermove", (event) => picture.hasPointerCapture(event.pointerId) && drag(event));
divider.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  if (!(event.key in steps)) return;
  at = place(at + steps[event.key]);
  event.preventDefault();
});
outlined.addEventListener("change", drawOutlines);

const NAMES = { both: "occlufix-before-after.png", after: "occlufix-after.png" };

async function save(view) {
  const response = await request(`/v1/snapshot?view=${view}&format=png`);
  if (!response.ok) return;
  const address = URL.createObjectURL(await response.blob());
  Object.assign(document.createElement("a"), { href: address, download: NAMES[view] }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000); // the browser may still be reading
}

for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => save(button.dataset.save));
