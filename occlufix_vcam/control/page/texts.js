// The page's words, in the language of the browser or the one that was chosen. The tray icon reads the same files.

const LANGUAGES = { en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文", hi: "हिन्दी" };
const listeners = [];
let words = {};

/** The text of `key` ("group.name") with its {placeholders} filled in; undefined where there is none. */
export function find(key, values = {}) {
  const at = key.indexOf(".");
  return words[key.slice(0, at)]?.[key.slice(at + 1)]?.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** What happened and what to do, by the error's code; in English, as it came, where there are no words for it. */
export function said({ message, hint = "", code = "", values = {} }) {
  return [find(`said.${code}`, values) ?? find(`need.${code}`) ?? message, find(`said.${code}_do`, values) ?? hint];
}

const STOPS = { zh: "。", hi: "।" };

/** A text that stands alone: with a capital and a full stop. */
export const sentence = (text) => text && text[0].toUpperCase() + text.slice(1) + (STOPS[document.documentElement.lang] ?? ".");

/** What happened and what to do, as one line. */
export const sentences = (error) => said(error).map(sentence).join(" ").trim();

export const t = (key, values) => find(key, values) ?? key;

/** A key that depends on a count: that of one, or that of many. */
export const count = (n, one, many, values) => t(n === 1 ? one : many, { n: n.toLocaleString(document.documentElement.lang), ...values });

/** Calls back now and whenever another language is chosen. */
export function onWords(show) {
  listeners.push(show);
  show();
}

/** Puts words into every element that names a key. */
export function fill(root = document) {
  for (const [attribute, put] of Object.entries({
    "data-t": (element, text) => { element.textContent = text; },
    "data-t-label": (element, text) => element.setAttribute("aria-label", text),
    "data-t-placeholder": (element, text) => { element.placeholder = text; },
  })) for (const element of root.querySelectorAll(`[${attribute}]`)) put(element, t(element.getAttribute(attribute)));
}

async function speak(language) {
  const response = await fetch(`/page/texts/${language}.json`);
  if (!response.ok) return;
  words = await response.json();
  document.documentElement.lang = language;
  fill();
  for (const show of listeners) show();
}

function preferred() {
  const wanted = [localStorage.getItem("language"), ...navigator.languages].map((one) => one?.slice(0, 2));
  return wanted.find((one) => one in LANGUAGES) ?? "en";
}

const picker = document.getElementById("language");
picker.append(...Object.entries(LANGUAGES).map(([code, name]) => Object.assign(new Option(name, code), { lang: code })));
picker.value = preferred();
picker.addEventListener("change", () => {
  localStorage.setItem("language", picker.value);
  speak(picker.value);
});
await speak(picker.value);
