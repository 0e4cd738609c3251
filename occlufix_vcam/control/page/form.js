// Every setting as a field, made from what the daemon says there is; a change is sent at once, alone, and told beside it.
import { ask } from "./session.js";

const PARTS = { camera: "Camera", output: "Output", restoring: "Restoring", program: "Program" };
const OTHER = "\u0000other";

const form = document.getElementById("settings");
const fields = new Map();
let devices = { cameras: [], virtual_cameras: [], backends: [] };

/** Builds the form; `settings` are the values that hold now. */
export async function buildForm(settings) {
  const [told, found] = await Promise.all([ask("GET", "/v1/settings/form"), ask("GET", "/v1/devices")]);
  devices = found;
  fields.clear();
  form.replaceChildren(...Object.entries(PARTS).map(([part, title]) => group(title, told.filter((one) => one.part === part))));
  showSettings(settings);
}

/** The values that hold now, wherever they were changed; a field that is being filled in is left alone. */
export function showSettings(settings) {
  for (const [name, field] of fields) {
    if (name in settings && !field.box.contains(document.activeElement)) field.show(settings[name]);
    field.now = settings[name];
  }
}

function group(title, members) {
  const set = document.createElement("fieldset");
  const legend = Object.assign(document.createElement("legend"), { textContent: title });
  set.append(legend, ...members.map(makeField));
  set.hidden = members.length === 0;
  return set;
}

function makeField(one) {
  const id = `setting-${one.name}`;
  const box = Object.assign(document.createElement("div"), { className: "field" });
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: one.title });
  const help = Object.assign(document.createElement("small"), { id: `${id}-help`, textContent: explain(one) });
  const told = Object.assign(document.createElement("span"), { className: "told" });
  told.setAttribute("role", "status");
  const control = makeControl(one);
  control.input.id = id;
  control.input.name = one.name;
  control.input.setAttribute("aria-describedby", help.id);
  if (one.kind === "switch") {
    box.classList.add("switchable");
    label.append(control.input);
    box.append(label, help, told);
  } else {
    box.append(label, ...control.elements, help, told);
  }
  const field = { box, now: undefined, show: control.show };
  fields.set(one.name, field);
  box.addEventListener("change", () => control.read() !== undefined && change(one, control.read(), field, told));
  return box;
}

function explain(one) {
  const bounds = one.minimum !== null && one.maximum !== null ? ` From ${one.minimum} to ${one.maximum}.` : "";
  const text = one.description ? one.description[0].toUpperCase() + one.description.slice(1) + "." : "";
  return text + bounds + (one.applies === "at the next start" ? " Takes effect at the next start." : "");
}

async function change(one, value, field, told) {
  const before = field.now; // while it is tried, the daemon may tell of the new value as if it held
  field.box.setAttribute("aria-busy", "true");
  delete field.box.dataset.bad;
  told.textContent = "";
  try {
    const keep = document.getElementById("keep").checked;
    let opens = false;
    const settings = await ask("PATCH", `/v1/settings?save=${keep}`, { [one.name]: value }, () => { opens = true; });
    if (one.applies !== "at the next start") field.show(settings[one.name]);
    told.textContent = opens ? "Still opening; the status says if it fails" : keep ? "Changed and saved" : "Changed for this run";
    setTimeout(() => { if (!("bad" in field.box.dataset)) told.textContent = ""; }, 4000);
  } catch (error) {
    field.box.dataset.bad = "";
    told.textContent = `${error.message}. ${error.hint ? `${error.hint}.` : ""}`;
    field.show(before);
  } finally {
    field.box.removeAttribute("aria-busy");
  }
}

// ---- controls: `read` gives the value to send, undefined while there is none; `show` puts one in ----

function makeControl(one) {
  if (one.name === "source") return picker(cameraChoices, (text) => text, (value) => value);
  if (one.name === "sinks") return picker(sinkChoices, (text) => text.split(",").map((name) => name.trim()).filter(Boolean), (value) => value.join(", "));
  if (one.name === "backend") return picker(backendChoices, (text) => text, (value) => value);
  if (one.kind === "switch") return tick();
  if (one.kind === "choice") return chooser(one.choices, one.words);
  return typed(one);
}

function tick() {
  const input = Object.assign(document.createElement("input"), { type: "checkbox" });
  return { input, elements: [input], read: () => input.checked, show: (value) => { input.checked = value; } };
}

function chooser(choices, words) {
  const input = document.createElement("select");
  input.append(...choices.map((choice, index) => new Option(words[index], String(choice))));
  const read = () => choices.find((choice) => String(choice) === input.value);
  return { input, elements: [input], read, show: (value) => { input.value = String(value); } };
}

function typed(one) {
  const number = one.kind === "whole" || one.kind === "number";
  const input = Object.assign(document.createElement("input"), { type: number ? "number" : "text" });
  if (number) Object.assign(input, { min: one.minimum ?? "", max: one.maximum ?? "", step: one.kind === "whole" ? 1 : "any" });
  const read = () => {
    if (input.value === "") return one.optional ? null : number ? undefined : "";
    if (one.kind === "list") return input.value.split(",").map((name) => name.trim()).filter(Boolean);
    return number ? Number(input.value) : input.value;
  };
  const show = (value) => { input.value = value === null || value === undefined ? "" : Array.isArray(value) ? value.join(", ") : String(value); };
  return { input, elements: [input], read, show };
}

/** What there is to choose from, and a line of text for anything else. */
function picker(choices, parse, write) {
  const input = document.createElement("select");
  const other = Object.assign(document.createElement("input"), { type: "text", hidden: true });
  other.setAttribute("aria-label", "Other, by name or path");
  const fill = () => input.replaceChildren(...choices().map(([value, title]) => new Option(title, value)), new Option("Other …", OTHER));
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
  ["auto", "First camera"],
  ...devices.cameras.map((camera) => [camera.path || String(camera.index), camera.name]),
  ["demo", "Demo photograph"],
];
const sinkChoices = () => [
  ["auto", "Every virtual camera"],
  ...devices.virtual_cameras.filter((one) => !one.problem).map((one) => [one.path || one.name, one.name || one.path]),
  ["null", "Nowhere"],
];
const backendChoices = () => [
  ["auto", "Fastest"],
  ...devices.backends.map((one) => [one.name, one.available ? `${one.name} on ${one.device}` : `${one.name} (not on this machine)`]),
];
