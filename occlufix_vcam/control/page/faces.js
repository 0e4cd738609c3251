// "My face": enrolling at the camera with a ring that fills, from photographs, and each stored view. Who is enrolled is
// asked only when somebody looks: a keyring may ask the user first.
import { onWords, said, sentences, t } from "./texts.js";
import { ask, request } from "./session.js";

const LONGEST = 20 * 1024 * 1024;
/** Where each pose lies on the ring, in degrees clockwise from the top, and how many views it wants. */
const ARCS = { left: [210, 330, 2], front: [-25, 25, 4], right: [30, 150, 2] };
const RADIUS = 44;

const by = (id) => document.getElementById(id);
let now = null;
let people = null;

/** How enrolling does, as the daemon tells it. */
export function showEnrolment({ enrolment }) {
  const ended = now?.state === "looking" && enrolment?.state !== "looking";
  now = enrolment;
  show();
  if (ended && by("people-shown").open) attempt(loadPeople);
}

function show() {
  const looking = now?.state === "looking";
  for (const id of ["enrol-start", "enrol-name", "photos"]) by(id).disabled = looking;
  if (looking && by("enrolling").hidden) by("see-title").scrollIntoView({ block: "end" });
  by("enrolling").hidden = !looking;
  if (looking) {
    say("");
    showRing();
  }
  else if (now) say(now.state === "done" ? t("face.done", now) : sentences({ ...now, message: now.say }), now.state === "failed");
}

function showRing() {
  const words = t(`need.${now.need || "preparing"}`);
  if (by("ring-words").textContent !== words) by("ring-words").textContent = words;
  by("ring").setAttribute("aria-label", t("face.ring", now));
  const arcs = Object.entries(ARCS).flatMap(([pose, [from, to, wanted]]) => {
    const part = (to - from) / wanted;
    return Array.from({ length: wanted }, (_, index) => arc(from + index * part + 2, from + (index + 1) * part - 2, index < (now.poses[pose] ?? 0)));
  });
  const turn = Math.max(-1.5, Math.min(1.5, now.turn)) * 60;
  const [x, y] = point(turn);
  const head = node("circle", { class: "head", cx: x, cy: y, r: 5 });
  const number = node("text", { class: "number", "text-anchor": "middle", y: 6 });
  number.textContent = `${now.views}/${now.wanted}`;
  by("ring").replaceChildren(...arcs, head, number);
}

const point = (degrees) => [RADIUS * Math.sin((degrees * Math.PI) / 180), -RADIUS * Math.cos((degrees * Math.PI) / 180)].map((one) => one.toFixed(2));
const arc = (from, to, full) => node("path", { class: full ? "full" : "", d: `M${point(from)}A${RADIUS} ${RADIUS} 0 0 1 ${point(to)}` });

function node(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function say(words, bad = false) {
  if (by("enrol-told").textContent !== words) by("enrol-told").textContent = words;
  by("enrol-told").toggleAttribute("data-bad", bad);
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(sentences(error), true);
  }
}

// ---- photographs ----

async function addPhotographs(files) {
  if (!by("enrol-name").value.trim() || !by("enrol-agreed").checked) return say(t("face.first"), true);
  const lines = [];
  let bad = false;
  for (const file of files) {
    say([...lines, t("face.adding", { file: file.name })].join("\n"));
    try {
      people = await upload(file);
      lines.push(t("face.added", { file: file.name }));
    } catch (error) {
      bad = true;
      lines.push(t("face.refused", { file: file.name, why: said(error)[0] }));
    }
  }
  say(lines.join("\n"), bad);
  if (people) showPeople();
}

async function upload(file) {
  if (file.size > LONGEST) throw new Error("> 20 MB");
  return ask("POST", `/v1/face-photograph?name=${encodeURIComponent(by("enrol-name").value)}`, file);
}

by("photos").addEventListener("click", () => by("photo-files").click());
by("photo-files").addEventListener("change", async () => {
  await addPhotographs([...by("photo-files").files]);
  by("photo-files").value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) by("card-face").addEventListener(kind, (event) => {
  event.preventDefault();
  by("drop").toggleAttribute("data-over", kind === "dragover");
  if (kind === "drop") addPhotographs([...event.dataTransfer.files]);
});

// ---- people and their views ----

async function loadPeople() {
  people = await ask("GET", "/v1/enroll");
  showPeople();
}

function showPeople() {
  const drawn = JSON.stringify([people, document.documentElement.lang]);
  if (!people || by("people").dataset.drawn === drawn) return; // a button that asks to be sure stays
  by("people").dataset.drawn = drawn;
  by("people").replaceChildren(...people.people.map(person));
  const problems = people.problems.map((problem) => sentences(problem));
  by("people-told").textContent = [people.people.length ? "" : t("face.none"), ...problems].join(" ");
}

function person({ name, ids }) {
  const item = document.createElement("li");
  const head = Object.assign(document.createElement("div"), { className: "head" });
  head.append(Object.assign(document.createElement("b"), { textContent: name }), twice(t("face.forget", { name }), `/v1/enroll/${encodeURIComponent(name)}`));
  const views = Object.assign(document.createElement("ul"), { className: "views" });
  views.append(...ids.map((id, index) => view(name, id, index + 1)));
  item.append(head, views);
  return item;
}

function view(name, id, n) {
  const path = `/v1/face-view?name=${encodeURIComponent(name)}&id=${id}`;
  const item = document.createElement("li");
  const image = Object.assign(document.createElement("img"), { alt: t("face.view", { n, name }), width: 64, height: 64 });
  attempt(async () => {
    const address = URL.createObjectURL(await (await request(path)).blob());
    image.addEventListener("load", () => URL.revokeObjectURL(address));
    image.src = address;
  });
  const button = twice(t("face.drop1", { n, name }), path);
  button.firstChild.textContent = "✕";
  item.append(image, button);
  return item;
}

/** A button that deletes at the second click. */
function twice(title, path) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", title });
  button.append(title);
  button.setAttribute("aria-label", title);
  button.addEventListener("click", () => {
    if (button.dataset.sure) return attempt(async () => {
      people = await ask("DELETE", path);
      showPeople();
    });
    button.dataset.sure = "1";
    button.firstChild.textContent = t("face.sure");
    button.setAttribute("aria-label", `${title}: ${t("face.sure")}`);
  });
  return button;
}

by("enrol").addEventListener("submit", () => attempt(async () => showEnrolment({ enrolment: await ask("POST", "/v1/enroll", { name: by("enrol-name").value }) })));
by("enrol-cancel").addEventListener("click", () => attempt(() => ask("POST", "/v1/enroll/cancel")));
by("people-shown").addEventListener("toggle", () => by("people-shown").open && attempt(loadPeople));
onWords(() => {
  show();
  showPeople();
});
