// Figures: facts in words, two small graphs of the last minute, the time of each stage, the engines.

const KEPT = 120; // at two a second: a minute
const [WIDTH, HEIGHT] = [240, 56];
const MOODS = { starting: "Starting", loading: "Loading the engines", waiting: "Waiting", stopping: "Stopped" };

const by = (id) => document.getElementById(id);
const history = { fps: [], latency: [], slow: [] };

/** The one line that says what is going on, and its kind for the eye. */
export function mood(status) {
  if (Object.keys(status.trouble).length) return ["trouble", "Trouble"];
  if (!["running", "idle"].includes(status.state) && status.enabled) return [status.state === "stopping" ? "lost" : "starting", MOODS[status.state] ?? status.state];
  if (!status.enabled) return ["off", "Off: frames pass untouched"];
  if (status.viewers === 0 || status.state === "idle") return ["idle", "On, no program reads the camera"];
  if (status.restoring) return ["restoring", status.restoring > 1 ? `On, restoring ${status.restoring} faces` : "On, restoring a face"];
  return ["on", status.faces ? "On, nothing is hidden" : "On, no face in view"];
}

export function showFigures(status) {
  remember(status);
  const delay = status.latency;
  facts(by("now"), {
    Faces: status.faces,
    "Restored so far": status.restored.toLocaleString(),
    Camera: status.camera ?? "none yet",
    Size: status.size ? `${status.size[0]} × ${status.size[1]}` : "–",
    "Sends to": status.sinks.map((name) => (name === "null" ? "nowhere" : name)).join(", ") || "nothing",
    ...(status.viewers === null ? {} : { "Reading programs": status.viewers }),
    "Left out": `${status.dropped.toLocaleString()} of ${(status.frames + status.dropped).toLocaleString()}`,
    ...(status.failed ? { Failed: status.failed } : {}),
    "Running for": duration(status.uptime_s),
  });
  by("fps-now").textContent = status.fps.toFixed(1);
  by("latency-now").textContent = delay ? `${delay.p50_ms.toFixed(0)} / ${delay.p95_ms.toFixed(0)}` : "–";
  graph(by("fps"), [history.fps]);
  graph(by("latency"), [history.latency, history.slow]);
  stages(status.stages);
  engines(status.engine);
  by("version").textContent = `Version ${status.version}.`;
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
  const names = Object.keys(all);
  if (names.join() !== [...body.children].map((row) => row.dataset.stage).join()) body.replaceChildren(...names.map(stageRow));
  const longest = Math.max(1, ...names.filter((name) => name !== "total").map((name) => all[name].p50_ms));
  names.forEach((name, index) => {
    const [, bar, usual, slow] = body.children[index].children;
    bar.firstChild.value = Math.min(1, all[name].p50_ms / longest);
    write(usual, all[name].p50_ms.toFixed(1));
    write(slow, all[name].p95_ms.toFixed(1));
  });
}

function stageRow(name) {
  const row = document.createElement("tr");
  row.dataset.stage = name;
  const title = document.createElement("th");
  title.scope = "row";
  title.textContent = name === "total" ? "all" : name;
  const bar = document.createElement("td");
  const progress = document.createElement("progress");
  progress.setAttribute("aria-label", `${title.textContent}, share of the longest stage`);
  if (name !== "total") bar.append(progress);
  else bar.append(document.createElement("span"));
  row.append(title, bar, document.createElement("td"), document.createElement("td"));
  return row;
}

function engines(all) {
  const lines = Object.entries(all).map(([model, one]) => [model, `${one.backend} on ${one.device}, ${one.precision}`]);
  rows(by("engines"), lines.length ? lines : [["", "loading; frames pass untouched until then"]]);
  const reasons = new Map(Object.values(all).flatMap((one) => one.passed_over.map((over) => [over.backend, over.reason])));
  by("reasons").hidden = reasons.size === 0;
  rows(by("reasons").querySelector("ul"), [...reasons].map(([backend, reason]) => [`${backend}: `, reason]));
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

function duration(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}
