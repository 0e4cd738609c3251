// Recording at a click: the button, the time it runs, and where the file lies.
import { onWords, sentences, t } from "./texts.js";
import { ask } from "./session.js";

const by = (id) => document.getElementById(id);
let now = null;
let told = "";

/** The recording under way, as the daemon tells it; null where there is none. */
export function showRecording(recording) {
  now = recording;
  show();
}

function show() {
  by("record").textContent = t(now ? "record.stop" : "record.start");
  by("record").toggleAttribute("data-recording", Boolean(now));
  by("beside").disabled = Boolean(now);
  by("record-told").setAttribute("aria-live", now ? "off" : "polite"); // a reader would say every second
  const words = now ? t("record.time", { time: clock(Date.now() / 1000 - now.began_at) }) : told;
  if (by("record-told").textContent !== words) by("record-told").textContent = words;
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    told = sentences(error);
  }
  show();
}

by("record").addEventListener("click", () => attempt(async () => {
  told = "";
  const { recording, file } = await ask("POST", "/v1/recording", { recording: !now, beside: by("beside").checked });
  now = recording;
  if (file) told = t("record.saved", { file });
  by("record-show").hidden = false;
}));
by("record-show").addEventListener("click", () => attempt(() => ask("POST", "/v1/recording/show")));
setInterval(() => now && show(), 1000);
onWords(show);
