// The page: asks for what changed, and draws the curves of the runs that are picked.
import { Chart, colourAt, unitOf } from "./chart.js";
import { pannable } from "./pan.js";
import { Table, counted } from "./table.js";

const EVERY = 2000; // ms between two looks for news
const FIRST = 8; // runs that are drawn before anybody picks
const MANY = 24; // runs from which on a sketch of all comes before the whole of any
const SKETCHED = 250; // runs whose sketches one request asks for
const BATCH = 40; // runs whose files one request reads
const MARKS = ["spike", "nonfinite", "transient", "rollback", "resume", "checkpoint", "halted", "failed", "lost", "hang", "pause", "stopped", "finished", "branch", "damage"];
const TROUBLE = new Set(["spike", "nonfinite", "transient", "rollback", "halted", "failed", "lost", "hang", "damage"]);
const TITLES = { loss: "loss", held_loss: "held-out loss", held_bits_per_byte: "held-out bits per byte", grad_norm: "gradient norm",
  lr: "learning rate", tokens_per_second: "tokens/s" };

const $ = (name) => document.querySelector(name);
const cache = new Map(); // id -> {key, data, stale}
let born = null, version = 0, chart = null, view = [null, null], turn = 0, panel = null;
document.documentElement.classList.add("js");
const table = new Table(() => drawAll());

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function news() {
  let wait = EVERY;
  try {
    if (!document.hidden) {
      const found = await ask(`/api/index?since=${version}`);
      wait = found.unread ? 50 : EVERY;
      take(found);
      say(found.unread ? `reading ${counted(found.unread, "more run")}` : `${counted(table.rows.size, "run")}, live`);
    }
  } catch {
    say("the server does not answer; start isoflop board again");
  }
  setTimeout(news, wait);
}

const failed = (error) => say(String(error.message ?? error));
const say = (text) => { if ($("#live").textContent !== text) $("#live").textContent = text; };

function take(found) {
  const first = !table.ready;
  if (found.born !== (born ??= found.born)) return location.reload(); // another server: its numbers are other runs
  version = found.version;
  let grown = false;
  for (const row of found.runs) {
    const kept = cache.get(row.id);
    if (kept) grown = kept.stale = true;
    if (panel?.id === row.id) openPanel(row.id, true).catch(failed);
  }
  table.update(found.runs);
  table.offer(found.filters);
  if (first && !found.unread) {
    table.ready = true;
    table.sort(-1, true);
    if (!table.picked.size) table.pick([...table.rows].filter(([, row]) => row.drawable).sort(([, one], [, other]) => (other.time ?? 0) - (one.time ?? 0)).slice(0, FIRST).map(([id]) => id));
  } else if (grown) {
    drawAll();
  }
}

// --- curves ---

const meanSteps = () => 2 ** Number($("#mean").value);
const settings = () => ({ x: $("#x").value, y: $("#y").value, mean: meanSteps(), from: view[0], to: view[1] });

function address(ids, of, sketch, wanted = settings()) {
  const words = new URLSearchParams({ runs: ids.join(","), of, x: wanted.x, y: wanted.y, mean: wanted.mean });
  if (wanted.from !== null) words.set("from", wanted.from);
  if (wanted.to !== null) words.set("to", wanted.to);
  if (sketch) words.set("sketch", "1");
  return `/api/curves?${words}`;
}

// Ask for what is missing of the picked runs, and draw what there is, again and again until all of it is whole.
async function drawAll() {
  const mine = ++turn;
  await bokeh;
  if (mine !== turn) return;
  const ids = table.drawn(), key = JSON.stringify([settings(), Math.ceil(Math.log2(ids.length || 1))]);
  const missing = ids.filter((id) => cache.get(id)?.key !== key || cache.get(id).stale || !cache.get(id).data.whole);
  const fetchSome = async (some, sketch) => {
    const { curves } = await ask(address(some, ids.length, sketch));
    for (const data of curves) cache.set(data.id, { key, data, stale: false });
    return curves.filter((data) => !data.whole).map((data) => data.id);
  };
  try {
    let rest = missing;
    for (let begin = 0; rest.length > MANY && begin < rest.length; begin += SKETCHED) {
      await fetchSome(rest.slice(begin, begin + SKETCHED), true);
      if (mine !== turn) return;
      await render(ids);
    }
    for (let drawn = performance.now(); rest.length && mine === turn;) {
      const some = rest.slice(0, BATCH);
      rest = rest.slice(BATCH).concat(await fetchSome(some, false));
      if (rest.length && performance.now() - drawn > 400 && mine === turn) {
        await render(ids);
        drawn = performance.now();
      }
    }
    if (mine === turn) await render(ids);
  } catch (error) {
    $("#drawn").textContent = String(error.message ?? error);
  }
}

const numbers = (column, factor = 1) => Float64Array.from(column, (value) => (value === null ? NaN : value / factor));

// The lines of runs' data, and their axes.
function linesOf(found, x, wanted) {
  const ends = found.flatMap(({ data }) => [data.x?.at(-1), data.held?.x.at(-1)]).filter((end) => end != null);
  const unit = wanted.unit ?? unitOf(x, ends.reduce((most, end) => Math.max(most, end), 0));
  const lines = [];
  for (const { id, name, data, colour, alpha = 1, width = 1.6 } of found) {
    if (data.pale && wanted.train) lines.push({ id, name, x: numbers(data.pale.x, unit.factor), y: numbers(data.pale.y), colour, alpha: 0.25, width: 1 });
    if (data.x && wanted.train) lines.push({ id, name, x: numbers(data.x, unit.factor), y: numbers(data.y), colour, alpha, width });
    if (data.held && wanted.held) {
      const of = { id, name: `${name}, held out`, x: numbers(data.held.x, unit.factor), y: numbers(data.held.y), colour };
      lines.push({ ...of, alpha: 0.8 * alpha, width: 1 }, { ...of, dots: true });
    }
  }
  return { lines, unit };
}

// Each drawn run keeps its colour while it is drawn; the next one takes the first that is free.
const slots = new Map();
function colourOf(id) {
  if (!slots.has(id)) {
    const taken = new Set(slots.values());
    let slot = 0;
    while (taken.has(slot)) slot++;
    slots.set(id, slot);
  }
  return colourAt(slots.get(id));
}

let unit = null;
function render(ids) {
  const kept = new Set(ids).add(panel?.id);
  for (const id of slots.keys()) if (!kept.has(id)) slots.delete(id);
  const { x, y } = settings(), colours = new Map();
  const found = ids.filter((id) => cache.has(id)).map((id) => {
    const colour = colourOf(id);
    colours.set(id, colour);
    return { id, name: table.rows.get(id).name, data: cache.get(id).data, colour, alpha: ids.length > 100 ? 0.5 : 1, width: ids.length > 30 ? 1 : 1.6 };
  });
  table.colour(colours);
  const held = y.startsWith("held_");
  const made = linesOf(found, x, { train: $("#train").checked && !held, held: held || (y === "loss" && $("#held").checked), unit: view[0] === null ? null : unit });
  unit = made.unit;
  const points = made.lines.reduce((sum, line) => sum + (line.dots ? 0 : line.x.length), 0);
  const rough = found.filter(({ data }) => !data.whole).length;
  $("#drawn").dataset.left = rough;
  $("#drawn").textContent = points ? `${counted(found.length, "run")}, ${counted(points, "point")} drawn`
    + (rough ? `; of ${counted(rough, "run")} a sketch until all is read` : "") : ids.length ? "nothing is stated of this" : "no run is picked";
  chart ??= pannable(new Chart($("#chart"), $("#readout"), (low, high) => {
    view = [low === null ? null : low * unit.factor, high === null ? null : high * unit.factor];
    drawAll();
  }));
  return chart.draw(made.lines, { x: { label: unit.label, told: unit.told, log: $("#log-x").checked }, y: { label: TITLES[y], log: $("#log-y").checked } });
}

// --- one run ---

async function openPanel(id, again = false) {
  const details = await ask(`/api/run?id=${id}`);
  const place = $("#panel"), loss = settings();
  if (again && panel?.id !== id) return;
  if (!again || !panel) {
    place.innerHTML = details.html;
    place.hidden = false;
    $("#close").addEventListener("click", closePanel);
    panel = { id, chart: null, view: [null, null] };
    $("#panel-title").focus();
  } else {
    renew(place, details.html);
  }
  await bokeh;
  await drawPanel(details, loss.x);
}

// The parts that say something else now; a table that is scrolled, or in focus, stays so.
function renew(place, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  for (const part of fresh.content.querySelectorAll("[data-part]")) {
    const old = place.querySelector(`[data-part="${part.dataset.part}"]`);
    if (old.innerHTML === part.innerHTML) continue;
    const [before, after] = [old, part].map((one) => one.querySelector(".table"));
    if (before && after) before.replaceChildren(...after.childNodes);
    else old.replaceChildren(...part.childNodes);
  }
}

async function drawPanel(details, x) {
  const mine = panel, wanted = { x, y: "loss", mean: 1, from: mine.view[0], to: mine.view[1] };
  let data;
  do {
    data = (await ask(address([mine.id], 1, false, wanted))).curves[0];
    if (panel !== mine) return;
    if (!data) return void ($("#run-readout").textContent = "this run has no curve");
    const name = details.name, colour = colourOf(mine.id);
    const { lines, unit } = linesOf([{ id: mine.id, name, data, colour }], x, { train: true, held: true, unit: mine.view[0] === null ? null : mine.unit });
    mine.unit = unit;
    lines.unshift(...marks(details.events, data, lines)); // first, so that an event is told before the point it lies on
    mine.chart ??= pannable(new Chart($("#run-chart"), $("#run-readout"), (low, high) => {
      mine.view = [low === null ? null : low * mine.unit.factor, high === null ? null : high * mine.unit.factor];
      drawPanel(details, x).catch(failed);
    }));
    await mine.chart.draw(lines, { x: { label: unit.label, told: unit.told, log: false }, y: { label: "loss", log: false } });
  } while (!data.whole && panel === mine);
}

// The events of the logbook, where they lie on the curve, trouble in red.
function marks(events, data, lines) {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const shown = events.filter((event) => MARKS.includes(event.name) && typeof event.step === "number");
  const [bad, usual] = [true, false].map((wanted) => shown.filter((event) => TROUBLE.has(event.name) === wanted));
  return [...marksOf(bad, colour("--mark"), data, lines[0]), ...marksOf(usual, colour("--faint"), data, lines[0])];
}

function marksOf(shown, colour, data, line) {
  if (!line || !shown.length || !data.event_x) return [];
  const found = { id: -1, name: "event", x: [], y: [], texts: [], colour, mark: true };
  shown.forEach((event) => {
    const place = data.event_x[event.step];
    if (place === undefined || place === null) return;
    const x = place / (panel.unit?.factor ?? 1);
    let near = 0;
    for (let one = 0; one < line.x.length; one++) if (line.x[one] <= x) near = one;
    found.x.push(x); found.y.push(line.y[near]); found.texts.push(`step ${event.step}, ${event.name}: ${event.text}`);
  });
  const order = found.x.map((_, place) => place).sort((one, other) => found.x[one] - found.x[other]);
  for (const name of ["x", "y", "texts"]) found[name] = order.map((place) => found[name][place]);
  return [found];
}

function closePanel() {
  const id = panel?.id;
  panel = null;
  $("#panel").hidden = true;
  $("#panel").replaceChildren();
  $(`button.open[data-run="${id}"]`)?.focus();
}

// --- what the user does ---

for (const name of ["#x", "#y"]) $(name).addEventListener("change", () => { view = [null, null]; if (chart) chart.view = null; drawAll(); if (panel) { panel.view = [null, null]; if (panel.chart) panel.chart.view = null; openPanel(panel.id, true).catch(failed); } });
for (const name of ["#train", "#held", "#log-x", "#log-y"]) $(name).addEventListener("change", () => drawAll());
$("#mean").addEventListener("input", () => {
  $("#mean-said").textContent = counted(meanSteps(), "step");
  drawAll();
});
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => chart?.act(button.dataset.do));
$("#runs").addEventListener("click", (event) => { if (event.target.matches("button.open")) openPanel(Number(event.target.dataset.run)).catch(failed); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && panel) closePanel(); });

// The library is larger than all the rest: the table is painted before it is asked for.
const script = (name) => new Promise((done, failed) => {
  const element = Object.assign(document.createElement("script"), { src: `/static/${name}?v=${document.body.dataset.bokeh}`, onload: done, onerror: failed });
  document.head.append(element);
});
const bokeh = new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)))
  .then(() => script("bokeh.min.js")).then(() => script("bokeh-api.min.js"));
bokeh.catch(() => { $("#drawn").textContent = "the script that draws did not load"; });
news();
