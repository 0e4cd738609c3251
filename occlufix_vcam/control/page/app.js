// The control page: puts the parts together and says in the head what is going on.
import { listen } from "./daemon.js";
import { buildForm, showSettings } from "./form.js";
import { showEnrollment } from "./faces.js";
import { mood, showFigures } from "./figures.js";
import { watch } from "./preview.js";
import { ask } from "./session.js";

const by = (id) => document.getElementById(id);
let status = null;
let settings = null;
let gone = false;
let formFor = 0; // the process whose settings the form shows

const GONE = ["OccluFix Camera does not answer", "It has stopped or is restarting. This page reconnects by itself. To start it: occlufix-vcam start"];
const LOCKED = ["This page is not let in", "It was reloaded, signed out, or is too old. Open it again with occlufix-vcam preview, or from the tray icon"];

function tell(name, value) {
  if (name === "status") {
    status = value;
    showFigures(status);
    showState();
    if (settings && formFor !== status.pid) {
      formFor = status.pid;
      buildForm(settings);
    }
  } else if (name === "settings") {
    settings = value;
    showSettings(settings);
  } else if (name === "builds") {
    showBuild(value);
  } else if (name === "enrolment") {
    showEnrollment(value);
  }
}

function showState() {
  const [kind, words] = mood(status);
  say(kind, words);
  notices(Object.entries(status.trouble).map(([where, what]) => [`Trouble with ${PLACES[where] ?? where}`, `${what}. ${status.hints[where] ? `${status.hints[where]}. ` : ""}OccluFix Camera retries by itself. For details, run occlufix-vcam doctor.`]));
  by("toggle").disabled = false;
  by("toggle").setAttribute("aria-checked", String(status.enabled));
}

const PLACES = { capture: "the camera", process: "the engines", output: "the output" };

function say(kind, words) {
  by("mood").dataset.mood = kind;
  if (by("mood").textContent !== words) by("mood").textContent = words;
  document.title = kind === "lost" ? "OccluFix Camera – not running" : "OccluFix Camera";
}

function notices(lines) {
  const told = JSON.stringify(lines);
  if (by("notices").dataset.told === told) return;
  by("notices").dataset.told = told;
  by("notices").replaceChildren(...lines.map(([what, hint]) => {
    const notice = Object.assign(document.createElement("div"), { className: "notice" });
    notice.append(Object.assign(document.createElement("b"), { textContent: what }), Object.assign(document.createElement("p"), { textContent: hint }));
    return notice;
  }));
}

function found() {
  if (gone) watch(true);
  gone = false;
}

function lost(reason) {
  gone = true;
  watch(false);
  say("lost", reason === "locked" ? "Not let in" : "Not there");
  notices([reason === "locked" ? LOCKED : GONE]);
  by("toggle").disabled = true;
}

// ---- the switch ----

async function toggle() {
  const wanted = by("toggle").getAttribute("aria-checked") !== "true";
  by("toggle").setAttribute("aria-checked", String(wanted));
  try {
    await ask("POST", "/v1/toggle", { enabled: wanted });
  } catch (error) {
    by("toggle").setAttribute("aria-checked", String(!wanted));
    notices([[error.message, error.hint ?? ""]]);
  }
}

by("toggle").addEventListener("click", toggle);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key.toLowerCase() === "t" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && !by("toggle").disabled) toggle();
});

// ---- engines ----

function showBuild({ running, doing, share, made, error, hint }) {
  by("build").disabled = running;
  by("build-progress").hidden = !running;
  by("build-progress").value = share;
  const checked = made.map((one) => `${one.model} ${one.p50_ms?.toFixed(1) ?? "–"} ms`).join(", ");
  if (running) by("build-told").textContent = `${doing || "Preparing"} …`;
  else if (error) by("build-told").textContent = `${error}. ${hint}`;
  else by("build-told").textContent = made.length ? `Built and checked: ${checked}` : "";
}

by("build").addEventListener("click", async () => {
  try {
    showBuild(await ask("POST", "/v1/builds", {}));
  } catch (error) {
    by("build-told").textContent = `${error.message}. ${error.hint}`;
  }
});

// ---- other pages ----

by("sign-out").addEventListener("click", async () => {
  try {
    const { signed_out: pages } = await ask("POST", "/v1/sign-out");
    by("signed-out").textContent = pages ? `${pages} other page${pages === 1 ? "" : "s"} signed out.` : "There is no other page.";
  } catch (error) {
    by("signed-out").textContent = `${error.message}. ${error.hint ?? ""}`;
  }
});

// ---- colours ----

const theme = by("theme");
theme.value = localStorage.getItem("theme") ?? "";
function colour() {
  document.documentElement.dataset.theme = theme.value;
  localStorage.setItem("theme", theme.value);
}
theme.addEventListener("change", colour);
colour();

document.addEventListener("visibilitychange", () => watch(!document.hidden));
watch(true); // the first picture need not wait for anything else
listen(tell, found, lost);
