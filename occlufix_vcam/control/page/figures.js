// How it does: one line in words; behind "Details" the graphs of the last minute, the time of each step, the engines.
import { count, t } from "./texts.js";

const KEPT = 120; // at two a second: a minute
const [WIDTH, HEIGHT] = [240, 56];
const GRADES = [[40, "fast"], [80, "good"], [Infinity, "slow"]]; // up to so many milliseconds of delay
const LEAST_OF_RATE = 0.7;
const STAGES = ["wait", "find", "align", "hidden", "remember", "restore", "blend", "total", "out"];

const by = (id) => document.getElementById(id);
const history = { fps: [], latency: [], slow: [] };

/** The kind of what is going on, for the eye, and one line that says it. */
export function mood(status) {
  if (Object.keys(status.trouble).length) return ["trouble", t("mood.trouble")];
  if (!["running", "idle"].includes(status.state) && (status.enabled || status.state === "stopping")) return [status.state === "stopping" ? "lost" : "starting", t(`mood.${status.state}`)];
  if (!status.enabled) return ["off", t("mood.off")];
  if (status.viewers === 0 || status.state === "idle") return ["idle", t("mood.idle")];
  if (status.restoring) return ["restoring", count(status.restoring, "mood.one", "mood.many")];
  return ["on", t(status.faces ? "mood.on" : "mood.noface")];
}

/** `rate`: frames a second that the camera is asked for. */
export function showFigures(status, rate) {
  remember(status);
  write(by("who"), who(status));
  write(by("hidden"), hidden(status));
  write(by("well"), well(status, rate));
  if (by("details").open) showDetails(status);
  write(by("version"), t("page.version", { version: status.version }));
}

function who({ recognised, faces, enabled }) {
  if (!enabled) return "";
  if (recognised.length) return t("see.known", { names: recognised.join(", ") });
  return faces ? count(faces, "see.one", "see.many") : t("see.none");
}

function hidden({ enabled, faces, coverage, restoring }) {
  if (!enabled) return t("see.untouched");
  const n = Math.round(100 * coverage);
  if (!faces || !n) return faces ? t("see.open") : "";
  return t(restoring ? "see.hidden" : "see.left", { n });
}

function well({ latency, fps, state }, rate) {
  if (state === "idle") return t("well.idle");
  if (!latency || !fps) return t("well.none");
  const grade = fps < LEAST_OF_RATE * rate ? "slow" : GRADES.find(([most]) => latency.p50_ms <= most)[1];
  by("well").dataset.grade = grade;
  return count(Math.round(fps), "well.line1", "well.line", { grade: t(`well.${grade}`), ms: latency.p50_ms.toFixed(0), fps: fps.toFixed(0) });
}

const many = (n) => n.toLocaleString(document.documentElement.lang);
const tenths = (n) => n.toLocaleString(document.documentElement.lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function showDetails(status) {
  facts(by("now"), {
    [t("well.restored")]: many(status.restored),
    [t("want.camera")]: status.camera?.startsWith("demo (") ? t("want.demo") : status.camera ?? "–",
    [t("well.size")]: status.size ? t("well.pixels", { w: status.size[0], h: status.size[1] }) : "–",
    [t("well.dropped")]: t("well.of", { n: many(status.dropped), m: many(status.frames + status.dropped) }),
    [t("well.bare")]: many(status.bare),
    [t("well.freezes")]: many(status.freezes),
    [t("well.uptime")]: duration(status.uptime_s),
  });
  write(by("fps-now"), tenths(status.fps));
  write(by("latency-now"), status.latency ? `${status.latency.p50_ms.toFixed(0)} / ${status.latency.p95_ms.toFixed(0)}` : "–");
  graph(by("fps"), [history.fps]);
  graph(by("latency"), [history.latency, history.slow]);
  stages(status.stages);
  engines(status.engine);
}

function remember(status) {
  const now = { fps: status.fps, latency: status.latency?.p50_ms ?? 0, slow: status.latency?.p95_ms ?? 0 };
  for (const [name, value] of Object.entries(now)) {
    history[name].push(value);
    if (history[name].length > KEPT) history[name].shift();
  }
}

function facts(list, pairs) {
  const wanted = Object.entries(pairs);
  if (list.children.length !== 2 * wanted.length) {
    list.replaceChildren(...wanted.flatMap(() => [document.createElement("dt"), document.createElement("dd")]));
  }
  wanted.forEach(([name, value], index) => {
    write(list.children[2 * index], name);
    write(list.children[2 * index + 1], String(value));
  });
}

/** Only what changed is touched, so that a selection or a reader's place is kept. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function graph(svg, lines) {
  const top = 1.15 * Math.max(1, ...lines.flat());
  const path = (values) => values.map((value, index) => {
    const x = WIDTH * (1 - (values.length - 1 - index) / (KEPT - 1));
    return `${index ? "L" : "M"}${x.toFixed(1)} ${(HEIGHT * (1 - value / top)).toFixed(1)}`;
  }).join("");
  const first = path(lines[0]);
  const left = (WIDTH * (1 - (lines[0].length - 1) / (KEPT - 1))).toFixed(1);
  draw(svg, [["area", `${first}L${WIDTH} ${HEIGHT}L${left} ${HEIGHT}Z`], ["", first], ...lines.slice(1).map((line) => ["second", path(line)])]);
}

function draw(svg, paths) {
  while (svg.children.length < paths.length) svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  paths.forEach(([kind, d], index) => {
    svg.children[index].setAttribute("class", kind);
    svg.children[index].setAttribute("d", d);
  });
}

function stages(all) {
  const body = by("stages");
  const names = STAGES.filter((name) => name in all);
  const drawn = names.join() + document.documentElement.lang;
  if (body.dataset.drawn !== drawn) body.replaceChildren(...names.map(stageRow));
  body.dataset.drawn = drawn;
  const longest = Math.max(1, ...names.filter((name) => name !== "total").map((name) => all[name].p50_ms));
  names.forEach((name, index) => {
    const [, bar, usual, slow] = body.children[index].children;
    bar.firstChild.value = Math.min(1, all[name].p50_ms / longest);
    write(usual, tenths(all[name].p50_ms));
    write(slow, tenths(all[name].p95_ms));
  });
}

function stageRow(name) {
  const row = document.createElement("tr");
  const title = Object.assign(document.createElement("th"), { scope: "row", textContent: t(`well.${name}`) });
  const bar = document.createElement("td");
  const progress = document.createElement(name === "total" ? "span" : "progress");
  if (name !== "total") progress.setAttribute("aria-label", `${title.textContent}: ${t("well.share")}`);
  bar.append(progress);
  row.append(title, bar, document.createElement("td"), document.createElement("td"));
  return row;
}

const MODELS = { faces: "well.faces", hidden: "well.hidden", restore: "well.restore", embed: "well.embed" };

function engines(all) {
  const lines = Object.entries(all).map(([model, one]) => [named(model), `${t("well.on", one)}, ${one.precision.toUpperCase()}`]);
  rows(by("engines"), lines.length ? lines : [["", t("well.loading")]]);
  const reasons = new Map(Object.values(all).flatMap((one) => one.passed_over.map((over) => [over.backend, over.reason])));
  by("reasons").hidden = reasons.size === 0;
  rows(by("reasons").querySelector("ul"), [...reasons].map(([backend, reason]) => [`${backend}: `, reason]));
}

/** A network in words; one that runs in several sizes with its own, such as "faces 1x160x160x3". */
function named(model) {
  const [name, shape] = model.split(" ");
  const [, h, w] = shape?.split("x") ?? [];
  return t(MODELS[name] ?? name) + (w ? ` (${t("well.pixels", { w, h })})` : "");
}

function rows(list, lines) {
  if (list.dataset.told === JSON.stringify(lines)) return;
  list.dataset.told = JSON.stringify(lines);
  list.replaceChildren(...lines.map((texts) => {
    const item = document.createElement("li");
    item.append(...texts.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
    return item;
  }));
}

export function duration(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
