// The control page: puts the parts together and says in the head what is going on.
import { count, find, onWords, said, sentence, sentences, t } from "./texts.js";
import { listen } from "./daemon.js";
import { buildForm, change, showSettings } from "./form.js";
import { showEnrolment } from "./faces.js";
import { mood, showFigures } from "./figures.js";
import { command, showVirtual } from "./guide.js";
import { watch } from "./preview.js";
import { showRecording } from "./record.js";
import { ask } from "./session.js";

const by = (id) => document.getElementById(id);
let status = null;
let settings = null;
let presets = {};
let gone = "";
let formFor = 0; // the process whose settings the form shows

function tell(name, value) {
  if (name === "status") {
    status = value;
    showStatus();
    if (settings && formFor !== status.pid) {
      formFor = status.pid;
      buildForm(settings);
      loadPresets();
    }
  } else if (name === "settings") {
    settings = value;
    showSettings(settings);
    pressPresets();
  } else if (name === "builds") {
    showBuild(value);
  } else if (name === "enrolment") {
    showEnrolment(value);
  }
}

function showStatus() {
  if (gone || !status) return;
  showFigures(status, settings?.rate ?? 0);
  showRecording(status.recording);
  showVirtual(status);
  say(...mood(status));
  notices(Object.entries(status.trouble).map(([place, message]) => {
    const [what, hint] = said({ message, hint: status.hints[place], ...status.codes[place] });
    return [
      t("trouble.with", { place: ["capture", "process", "output"].includes(place) ? t(`trouble.${place}`) : place, what }),
      `${sentence(hint)} ${find(`again.${place}`) ?? find(`again.${status.codes[place]?.code}`) ?? t("trouble.again")} ${t("trouble.doctor", { command: "occlufix-vcam doctor" })}`.trim(),
    ];
  }));
  showSwitch(status.enabled);
  by("toggle").disabled = false;
}

function say(kind, words) {
  by("mood").dataset.mood = kind;
  if (by("mood").textContent !== words) by("mood").textContent = words;
  document.title = kind === "lost" ? `OccluFix Camera – ${words}` : "OccluFix Camera";
}

function notices(lines, line = "") {
  const told = JSON.stringify([lines, line, document.documentElement.lang]);
  if (by("notices").dataset.told === told) return;
  by("notices").dataset.told = told;
  by("notices").replaceChildren(...lines.map(([what, hint]) => {
    const notice = Object.assign(document.createElement("div"), { className: "notice" });
    notice.append(Object.assign(document.createElement("b"), { textContent: what }), Object.assign(document.createElement("p"), { textContent: hint }));
    if (line) notice.append(command(line));
    return notice;
  }));
}

function found() {
  if (gone) watch(true);
  gone = "";
  delete document.body.dataset.gone;
}

/** "gone": the old picture stays, dimmed, until the daemon is there again. "locked": nothing but the way back in. */
function lost(reason) {
  gone = reason;
  watch(false);
  showLost();
}

function showLost() {
  if (!gone) return;
  document.body.dataset.gone = gone;
  say("lost", t(gone === "locked" ? "mood.locked" : "mood.gone"));
  notices([[t(`lost.${gone}`), t(`lost.${gone}text`)]], gone === "locked" ? "occlufix-vcam preview" : "occlufix-vcam start");
  by("toggle").disabled = true;
}

// ---- the switch ----

function showSwitch(on) {
  by("toggle").setAttribute("aria-checked", String(on));
  by("toggle-words").textContent = t(on ? "see.ison" : "see.isoff");
}

async function toggle() {
  const wanted = by("toggle").getAttribute("aria-checked") !== "true";
  showSwitch(wanted);
  try {
    await ask("POST", "/v1/toggle", { enabled: wanted });
  } catch (error) {
    showSwitch(!wanted);
    notices([said(error)]);
  }
}

by("toggle").addEventListener("click", toggle);
by("bare").addEventListener("click", () => ask("POST", "/v1/bare").catch((error) => notices([said(error)])));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key.toLowerCase() === "t" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && !by("toggle").disabled) toggle();
});

// ---- presets ----

async function loadPresets() {
  presets = await ask("GET", "/v1/settings/presets").catch(() => presets);
  showPresets();
}

function showPresets() {
  by("presets").replaceChildren(...Object.entries(presets).map(([name, changes]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "preset" });
    button.dataset.preset = name;
    button.append(...["", "text"].map((more) => Object.assign(document.createElement(more ? "small" : "b"), { textContent: t(`preset.${name}${more}`) })));
    button.addEventListener("click", async () => {
      try {
        await change(changes);
        by("preset-told").textContent = t("want.set", { name: t(`preset.${name}`) });
      } catch (error) {
        by("preset-told").textContent = sentences(error);
      }
    });
    return button;
  }));
  pressPresets();
}

/** Marks the preset whose settings all hold. */
function pressPresets() {
  for (const button of by("presets").children) {
    const changes = Object.entries(presets[button.dataset.preset]);
    button.setAttribute("aria-pressed", String(changes.every(([name, value]) => settings?.[name] === value)));
  }
}

// ---- engines ----

function showBuild({ running, doing, share, made, error, hint, code }) {
  by("build").disabled = running;
  by("build-progress").hidden = !running;
  by("build-progress").value = share;
  const models = made.map((one) => `${one.model} ${one.p50_ms?.toFixed(1) ?? "–"} ms`).join(", ");
  if (running) by("build-told").textContent = `${doing || t("well.preparing")} …`;
  else if (error) by("build-told").textContent = sentences({ message: error, hint, code });
  else by("build-told").textContent = made.length ? t("well.built", { models }) : "";
}

by("build").addEventListener("click", async () => {
  try {
    showBuild(await ask("POST", "/v1/builds", {}));
  } catch (error) {
    by("build-told").textContent = sentences(error);
  }
});

// ---- other pages ----

by("sign-out").addEventListener("click", async () => {
  try {
    const { signed_out: pages } = await ask("POST", "/v1/sign-out");
    by("signed-out").textContent = pages ? count(pages, "page.out1", "page.outs") : t("page.out0");
  } catch (error) {
    by("signed-out").textContent = sentences(error);
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
onWords(() => {
  by("toggle").title = t("see.key");
  showStatus();
  showPresets();
  showLost();
});
