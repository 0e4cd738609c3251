// "Remember my face": enrolling at the camera, and who is enrolled. Who that is, is asked only when somebody looks:
// a keyring may ask the user first.
import { ask } from "./session.js";

const by = (id) => document.getElementById(id);

/** How enrolling does, as the daemon tells it. */
export function showEnrolment({ enrolment }) {
  const looking = enrolment?.state === "looking";
  by("enrol-start").disabled = looking;
  by("enrol-name").disabled = looking;
  by("enrol-cancel").hidden = !looking;
  by("enrol-progress").hidden = !looking;
  if (!enrolment) return;
  by("enrol-progress").value = enrolment.views / Math.max(1, enrolment.wanted);
  say(looking ? `${enrolment.name}: ${enrolment.say}` : enrolment.state === "done" ? enrolment.say : `${enrolment.say}. ${enrolment.hint}`, enrolment.state === "failed");
  if (enrolment.state === "done" && by("people-shown").open) showPeople();
}

function say(words, bad = false) {
  by("enrol-told").textContent = words;
  by("enrol-told").toggleAttribute("data-bad", bad);
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(`${error.message}. ${error.hint ?? ""}`, true);
  }
}

async function showPeople() {
  const told = await ask("GET", "/v1/enroll");
  by("people").replaceChildren(...told.people.map(person));
  const problems = told.problems.map((problem) => `${problem.message}. ${problem.hint}.`);
  by("people-told").textContent = [told.people.length ? "" : "No one yet.", told.protection && `Kept ${told.protection}.`, ...problems].join(" ");
}

function person({ name, views }) {
  const item = document.createElement("li");
  const forget = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: "Forget" });
  forget.setAttribute("aria-label", `Forget ${name}`);
  forget.addEventListener("click", () => {
    if (forget.textContent === "Forget") {
      forget.textContent = "Delete for good?";
      forget.setAttribute("aria-label", `Really forget ${name}?`);
    } else attempt(async () => {
      await ask("DELETE", `/v1/enroll/${encodeURIComponent(name)}`);
      await showPeople();
    });
  });
  item.append(Object.assign(document.createElement("span"), { textContent: `${name}, ${views} view${views === 1 ? "" : "s"}` }), forget);
  return item;
}

by("enrol").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => showEnrolment({ enrolment: await ask("POST", "/v1/enroll", { name: by("enrol-name").value }) }));
});
by("enrol-cancel").addEventListener("click", () => attempt(() => ask("POST", "/v1/enroll/cancel")));
by("people-shown").addEventListener("toggle", () => by("people-shown").open && attempt(showPeople));
