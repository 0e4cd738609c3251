// "Remember my face": enrolling at the camera, and who is enrolled. The names are requested only when this part is shown:
// a keyring may ask the user first.
import { ask } from "./session.js";

const by = (id) => document.getElementById(id);

/** How enrolling does, as the daemon tells it. */
export function showEnrollment({ enrolment: enrollment }) {
  const looking = enrollment?.state === "looking";
  by("enrol-start").disabled = looking;
  by("enrol-name").disabled = looking;
  by("enrol-cancel").hidden = !looking;
  by("enrol-progress").hidden = !looking;
  if (!enrollment) return;
  by("enrol-progress").value = enrollment.views / Math.max(1, enrollment.wanted);
  say(looking ? `${enrollment.name}: ${enrollment.say}` : enrollment.state === "done" ? enrollment.say : `${enrollment.say}. ${enrollment.hint}`, enrollment.state === "failed");
  if (enrollment.state === "done" && by("people-shown").open) showPeople();
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
  attempt(async () => showEnrollment({ enrolment: await ask("POST", "/v1/enroll", { name: by("enrol-name").value }) }));
});
by("enrol-cancel").addEventListener("click", () => attempt(() => ask("POST", "/v1/enroll/cancel")));
by("people-shown").addEventListener("toggle", () => by("people-shown").open && attempt(showPeople));
