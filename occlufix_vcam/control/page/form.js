// Every setting as a field, made from what the daemon says there is; a change is sent at once, alone, and told beside it.
import { find, onWords, sentences, t } from "./texts.js";
import { ask } from "./session.js";

const PARTS = ["camera", "output", "restoring", "program"];
const APART = { source: "camera-fields", sinks: "virtual-fields" };
const ELSEWHERE = ["enabled"]; // the switch beside the picture
const SIZES = [["640x360", ""], ["640x480", "VGA"], ["1280x720", "HD"], ["1920x1080", "Full HD"]];
const OTHER = "\u0000other";

const by = (id) => document.getElementById(id);
const fields = new Map();
let told = [];
let now = {};
let devices = { cameras: [], virtual_cameras: [], backends: [] };

/** Builds the form; `settings` are the values that hold now. */
export async function buildForm(settings) {
  now = settings; // before the wait: what is told meanwhile is newer
  [told, devices] = await Promise.all([ask("GET", "/v1/settings/form"), ask("GET", "/v1/devices")]);
  draw();
}

/** The values that hold now, wherever they were changed; a field that is being filled in is left alone. */
export function showSettings(settings) {
  now = settings;
  for (const [name, field] of fields) {
    if (!field.box.contains(document.activeElement) && !("bad" in field.box.dataset)) field.show(settings[name]);
    field.reset.hidden = same(settings[name], field.one.default);
  }
  showSize();
}

/** Changes settings at once, and for the next start as the box says. `pending` is called where it still goes on. */
export function change(changes, pending) {
  return ask("PATCH", `/v1/settings?save=${by("keep").checked}`, changes, pending);
}

/** The virtual cameras of this computer, as they were found last. */
export const virtualCameras = () => devices.virtual_cameras;

function draw() {
  fields.clear();
  const made = new Map(told.filter((one) => !ELSEWHERE.includes(one.name)).map((one) => [one, makeField(one)]));
  for (const place of Object.values(APART)) by(place).replaceChildren();
  by("settings").replaceChildren(...PARTS.map(group));
  for (const [one, box] of made) by(APART[one.name] ?? `part-${one.part}`)?.append(box);
  if (told.length) by("camera-fields").append(sizeField());
  showSettings(now);
  search();
}

function group(part) {
  const set = Object.assign(document.createElement("fieldset"), { id: `part-${part}` });
  set.append(Object.assign(document.createElement("legend"), { textContent: t(`form.${part}`) }));
  return set;
}

function make(tag, options) {
  return Object.assign(document.createElement(tag), options);
}

function makeField(one) {
  const id = `setting-${one.name}`;
  const title = t(`set.${one.name}`);
  const box = make("div", { className: "field" });
  box.dataset.words = `${title} ${find(`help.${one.name}`) ?? ""} ${one.name}`.toLowerCase();
  const label = make("label", { htmlFor: id, textContent: title });
  const help = make("small", { id: `${id}-help`, textContent: explain(one) });
  const said = make("span", { id: `${id}-told`, className: "told" });
  said.setAttribute("role", "status");
  const reset = make("button", { type: "button", className: "reset", textContent: "↺", title: t("form.reset", { name: title }), hidden: true });
  reset.setAttribute("aria-label", reset.title);
  const control = makeControl(one);
  Object.assign(control.input, { id, name: one.name });
  const unit = one.unit && make("span", { id: `${id}-unit`, className: "unit" });
  control.input.setAttribute("aria-describedby", [...(unit ? [unit.id] : []), help.id, said.id].join(" "));
  const line = make("div", { className: "line" });
  line.append(...(one.kind === "switch" ? [label] : []), ...control.elements, ...(unit ? [unit] : []), reset);
  if (one.kind === "switch") box.classList.add("switchable");
  box.append(...(one.kind === "switch" ? [line] : [label, line]), help, said);
  const show = (value) => {
    control.show(value);
    if (unit) unit.textContent = (value === 1 && find(`form.${one.unit}1`)) || t(`form.${one.unit}`);
  };
  const field = { one, box, said, reset, show, input: control.input };
  fields.set(one.name, field);
  reset.addEventListener("click", () => send(field, one.default));
  box.addEventListener("input", () => complain(field, ""));
  box.addEventListener("change", () => {
    const value = control.read();
    const wrong = value === undefined ? "" : problem(one, value);
    complain(field, wrong);
    if (value !== undefined && !wrong) send(field, value);
  });
  return box;
}

function explain(one) {
  return [find(`help.${one.name}`), one.applies === "at the next start" && t("form.restart")].filter(Boolean).join(" ");
}

/** What is wrong with a value, in words; "" where nothing is. */
function problem(one, value) {
  if (one.kind !== "whole" && one.kind !== "number") return "";
  if (value === null && one.optional) return "";
  if (value === null || Number.isNaN(value) || (one.kind === "whole" && !Number.isInteger(value))) return t("form.number");
  const [min, max] = [one.minimum ?? -Infinity, one.maximum ?? Infinity];
  return value < min || value > max ? t("form.range", { min: shown(one, min), max: shown(one, max) }) : "";
}

function complain(field, words) {
  field.box.toggleAttribute("data-bad", Boolean(words));
  if (words) field.input.setAttribute("aria-invalid", "true");
  else field.input.removeAttribute("aria-invalid");
  field.said.textContent = words;
}

async function send(field, value) {
  const before = now[field.one.name]; // while it is tried, the daemon may tell of the new value as if it held
  field.box.setAttribute("aria-busy", "true");
  try {
    let opens = false;
    const settings = await change({ [field.one.name]: value }, () => { opens = true; });
    complain(field, "");
    if (field.one.applies !== "at the next start") showSettings(settings);
    field.show(field.one.applies === "at the next start" ? value : settings[field.one.name]);
    field.said.textContent = t(opens ? "form.opening" : by("keep").checked ? "form.saved" : "form.changed");
    setTimeout(() => { if (!("bad" in field.box.dataset)) field.said.textContent = ""; }, 4000);
  } catch (error) {
    field.show(before); // that goes on
    complain(field, sentences(error));
  } finally {
    field.box.removeAttribute("aria-busy");
  }
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** A share as percent: nobody thinks in 0.02. */
const factor = (one) => (one.unit === "%" && one.kind === "number" ? 100 : 1);
const shown = (one, value) => String(Math.round(value * factor(one) * 1e6) / 1e6);

// ---- controls: `read` gives the value to send, undefined while there is none; `show` puts one in ----

function makeControl(one) {
  if (one.name === "source") return picker(cameraChoices, (text) => text, (value) => value);
  if (one.name === "sinks") return picker(sinkChoices, (text) => text.split(",").map((name) => name.trim()).filter(Boolean), (value) => value.join(", "));
  if (one.name === "backend") return picker(backendChoices, (text) => text, (value) => value);
  if (one.kind === "switch") return tick();
  if (one.kind === "choice") return chooser(one);
  return typed(one);
}

function tick() {
  const input = make("input", { type: "checkbox" });
  return { input, elements: [input], read: () => input.checked, show: (value) => { input.checked = value; } };
}

function chooser({ name, choices }) {
  const words = (choice) => find(`choice.${name}.${choice}`) ?? find(`choice.${choice}`) ?? (typeof choice === "number" ? `${choice}°` : choice.toUpperCase());
  const input = make("select");
  input.append(...choices.map((choice) => new Option(words(choice), String(choice))));
  const read = () => choices.find((choice) => String(choice) === input.value);
  return { input, elements: [input], read, show: (value) => { input.value = String(value); } };
}

function typed(one) {
  const number = one.kind === "whole" || one.kind === "number";
  const slides = one.unit === "%" && one.kind === "whole";
  const input = make("input", { type: slides ? "range" : "text", inputMode: number ? "decimal" : "text" });
  const output = slides && make("output");
  if (slides) input.addEventListener("input", () => { output.textContent = input.value; });
  const read = () => {
    if (input.value === "") return one.optional ? null : number ? NaN : "";
    if (one.kind === "list") return input.value.split(",").map((name) => name.trim()).filter(Boolean);
    return number ? Math.round((Number(input.value.replace(",", ".")) / factor(one)) * 1e9) / 1e9 : input.value;
  };
  const show = (value) => {
    input.value = value === null || value === undefined ? "" : number ? shown(one, value) : Array.isArray(value) ? value.join(", ") : String(value);
    if (slides) output.textContent = input.value;
  };
  return { input, elements: slides ? [input, output] : [input], read, show };
}

/** What there is to choose from, and a line of text for anything else. */
function picker(choices, parse, write) {
  const input = make("select");
  const other = make("input", { type: "text", hidden: true });
  other.setAttribute("aria-label", t("want.otherlabel"));
  const fill = () => input.replaceChildren(...choices().map(([value, title]) => new Option(title, value)), new Option(t("want.other"), OTHER));
  const read = () => {
    other.hidden = input.value !== OTHER;
    if (!other.hidden && !other.value) return void other.focus();
    return parse(other.hidden ? input.value : other.value);
  };
  const show = (value) => {
    const text = write(value);
    const known = choices().some(([choice]) => choice === text);
    input.value = known ? text : OTHER;
    other.hidden = known;
    other.value = known ? "" : text;
  };
  fill();
  input.addEventListener("pointerdown", refresh);
  input.addEventListener("focus", refresh);
  async function refresh() {
    devices = await ask("GET", "/v1/devices").catch(() => devices);
    const chosen = input.value;
    const wanted = JSON.stringify(choices());
    if (input.dataset.choices === wanted) return;
    input.dataset.choices = wanted;
    fill();
    input.value = chosen;
  }
  input.dataset.choices = JSON.stringify(choices());
  return { input, elements: [input, other], read, show };
}

const cameraChoices = () => [
  ["auto", t("want.auto")],
  ...devices.cameras.map((camera) => [camera.path || String(camera.index), camera.name]),
  ["demo", t("want.demo")],
];
const sinkChoices = () => [
  ["auto", t("want.every")],
  ...devices.virtual_cameras.filter((one) => !one.problem).map((one) => [one.path || one.name, one.name || one.path]),
  ["null", t("want.nowhere")],
];
const backendChoices = () => [
  ["auto", t("want.fastest")],
  ...devices.backends.filter((one) => one.name !== "fake").map((one) => [one.name, one.available ? t("well.on", { backend: one.name, device: one.device }) : t("want.absent", one)]),
];

// ---- resolutions by name: width and height at once ----

function sizeField() {
  const box = make("div", { className: "field" });
  const select = make("select", { id: "resolution" });
  const said = make("span", { id: "resolution-told", className: "told" });
  said.setAttribute("role", "status");
  select.setAttribute("aria-describedby", said.id);
  box.append(make("label", { htmlFor: select.id, textContent: t("want.size") }), select, said);
  select.addEventListener("change", async () => {
    const [width, height] = select.value.split("x").map(Number);
    const before = `${now.width}x${now.height}`;
    said.textContent = "";
    try {
      showSettings(await change({ width, height }));
    } catch (error) {
      said.textContent = sentences(error);
      select.value = before;
    }
  });
  return box;
}

function showSize() {
  const select = by("resolution");
  if (!select || document.activeElement === select) return;
  const held = `${now.width}x${now.height}`;
  const sizes = SIZES.some(([size]) => size === held) ? SIZES : [...SIZES, [held, ""]];
  select.replaceChildren(...sizes.map(([size, name]) => {
    const [w, h] = size.split("x");
    return new Option([name, t("well.pixels", { w, h })].filter(Boolean).join(", "), size);
  }));
  select.value = held;
}

// ---- searching and resetting ----

function search() {
  const wanted = by("search").value.trim().toLowerCase();
  let shown = 0;
  for (const set of by("settings").children) {
    const boxes = [...set.querySelectorAll(".field")];
    for (const box of boxes) box.hidden = !box.dataset.words.includes(wanted);
    const left = boxes.filter((box) => !box.hidden).length;
    set.hidden = !left;
    shown += left;
  }
  by("nothing").textContent = told.length && !shown ? t("form.nothing") : "";
}

async function resetAll() {
  const button = by("reset-all");
  const sure = "sure" in button.dataset;
  button.toggleAttribute("data-sure", !sure);
  button.textContent = t(sure ? "form.all" : "form.sure");
  if (!sure) return;
  const live = told.filter((one) => !(one.name in APART) && (by("keep").checked || one.applies !== "at the next start"));
  const changes = Object.fromEntries(live.filter((one) => !same(now[one.name], one.default)).map((one) => [one.name, one.default]));
  try {
    showSettings(await change(changes));
    by("nothing").textContent = t(by("keep").checked ? "form.saved" : "form.changed");
  } catch (error) {
    by("nothing").textContent = sentences(error);
  }
}

by("search").addEventListener("input", search);
by("reset-all").addEventListener("click", resetAll);
for (const form of document.querySelectorAll("form")) form.addEventListener("submit", (event) => event.preventDefault());
onWords(draw);
