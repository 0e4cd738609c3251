// The first run in four steps, the state of the virtual camera, and where each program lets one choose it.
import { onWords, t } from "./texts.js";
import { virtualCameras } from "./form.js";

const PROGRAMS = { zoom: "Zoom", teams: "Microsoft Teams", meet: "Google Meet", chrome: "Chrome, Chromium, Edge", firefox: "Firefox", obs: "OBS Studio", discord: "Discord" };
const STEPS = ["camera", "virtual", "face", "call"];

const by = (id) => document.getElementById(id);
let at = localStorage.getItem("guided") ? -1 : 0;
let program = "zoom";
let status = null;

/** A command to run in a terminal, with a button that copies it. */
export function command(line) {
  const box = Object.assign(document.createElement("p"), { className: "command" });
  const copy = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: t("page.copy") });
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(line).catch(() => getSelection().selectAllChildren(box.firstChild));
    copy.textContent = t("page.copied");
  });
  box.append(Object.assign(document.createElement("code"), { textContent: line }), copy);
  return box;
}

/** Who reads the virtual camera, and whether there is one. */
export function showVirtual(told) {
  status = told;
  const readers = told.readers.length ? t("want.used", { names: told.readers.join(", ") }) : told.viewers === null ? "" : t("want.unused");
  if (by("readers").textContent !== readers) by("readers").textContent = readers;
  for (const place of document.querySelectorAll("[data-virtual]")) showState(place);
}

function showState(place) {
  const recorded = status?.recording?.file.split(/[\\/]/).pop();
  const there = Boolean(status?.sinks.some((name) => name !== "null" && name !== recorded)) || virtualCameras().some((one) => !one.problem);
  const drawn = `${there} ${document.documentElement.lang}`;
  if (!status || place.dataset.drawn === drawn) return;
  place.dataset.drawn = drawn;
  place.replaceChildren(Object.assign(document.createElement("p"), { className: "hint", textContent: t(there ? "want.ready" : "want.setup") }));
  if (!there) place.append(command("occlufix-vcam setup"));
}

function callSteps(id) {
  const box = document.createElement("div");
  const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: t("guide.program") });
  const select = Object.assign(document.createElement("select"), { id });
  select.append(...Object.entries(PROGRAMS).map(([value, name]) => new Option(name, value)));
  select.value = program;
  const steps = Object.assign(document.createElement("p"), { className: "hint", textContent: t(`guide.${program}`) });
  steps.setAttribute("role", "status");
  select.addEventListener("change", () => {
    program = select.value;
    steps.textContent = t(`guide.${program}`);
  });
  box.className = "field";
  box.append(label, select, steps);
  return box;
}

const paragraph = (key) => Object.assign(document.createElement("p"), { textContent: t(key) });

/** A button that leads to a field of the page. */
function leadTo(key, id) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: t(key) });
  button.addEventListener("click", () => by(id).focus());
  return button;
}

const BODIES = {
  camera: () => [paragraph("guide.camera"), leadTo("guide.tocamera", "setting-source")],
  virtual: () => {
    const place = document.createElement("div");
    place.dataset.virtual = "";
    showState(place);
    return [paragraph("guide.virtual"), place];
  },
  face: () => [paragraph("guide.face"), leadTo("guide.toface", "enrol-name")],
  call: () => [callSteps("guide-program")],
};
const HEADS = { camera: "want.camera", virtual: "want.virtual", face: "face.title", call: "guide.call" };

function show() {
  by("guide").hidden = at < 0;
  if (at < 0) return;
  const step = STEPS[at];
  by("guide-step").textContent = t("guide.step", { n: at + 1, m: STEPS.length });
  by("guide-body").replaceChildren(Object.assign(document.createElement("h3"), { textContent: t(HEADS[step]) }), ...BODIES[step]());
  by("guide-back").disabled = at === 0;
  by("guide-next").textContent = t(at === STEPS.length - 1 ? "guide.finish" : "guide.next");
}

function go(step) {
  at = step < STEPS.length ? step : -1;
  if (at < 0) localStorage.setItem("guided", "1");
  show();
}

by("guide-next").addEventListener("click", () => go(at + 1));
by("guide-back").addEventListener("click", () => go(at - 1));
by("guide-skip").addEventListener("click", () => go(STEPS.length));
by("guide-open").addEventListener("click", () => {
  go(0);
  by("guide").scrollIntoView({ block: "nearest" });
  by("guide-next").focus();
});
onWords(() => {
  show();
  for (const place of document.querySelectorAll("[data-call]")) {
    place.replaceChildren(Object.assign(document.createElement("h4"), { textContent: t("guide.call") }), callSteps("call-program"));
  }
});
