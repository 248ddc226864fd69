// The charts of a page that lies in one file: drawn by Bokeh in place of the pictures, which stay where this cannot run.

const PALE = "#c9d4e3", PALE_ON_DARK = "#4a5a70", BLACK = "#000000";
const SHAPES = { o: "circle", ".": "circle", s: "square", "^": "triangle", v: "inverted_triangle", D: "diamond", P: "plus", X: "hex", "*": "star" };
const NARROW = 500, LONG = 20; // pixels of a chart, letters of a bar's name
const DASHES = { "--": [6, 4], ":": [2, 3], "-.": [6, 3, 2, 3] };

// The text of a script that the page holds compressed.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (one) => one.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function library() {
  for (const id of ["bokeh", "bokeh-api"]) {
    document.head.append(Object.assign(document.createElement("script"), { textContent: await unpacked(id) }));
  }
  if (!window.Bokeh?.Plotting) throw new Error("the library did not start");
}

// --- colours: those of the pictures, which lie on white, until they stand out from the page ---

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
function luminance(colour) {
  const [red, green, blue] = channels(colour).map((one) => (one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
const styled = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function ink(colour) {
  const dark = DARK.matches, paper = dark ? styled("--paper") : "#ffffff";
  if (colour === BLACK) return styled("--ink");
  if (colour === PALE) return dark ? PALE_ON_DARK : PALE; // what lies behind the line that counts
  for (let share = 0; share < 1; share += 0.05) {
    const mixed = channels(colour).map((one) => Math.round(one + share * ((dark ? 255 : 0) - one)).toString(16).padStart(2, "0"));
    const found = `#${mixed.join("")}`;
    if (contrast(found, paper) >= (dark ? 4.5 : 3)) return found;
  }
  return styled("--ink");
}

// --- what chart.js draws ---

const column = (values, factor = 1) => Float64Array.from(values ?? [], (value) => (value === null ? NaN : value / factor));
const largest = (columns) => columns.flat().reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0);

// An axis in units that its numbers are read in: 5 of "tokens (M)". Logarithmic ones keep theirs.
function axisOf(label, log, most) {
  const [factor, unit] = log ? [1, ""] : prefixOf(most);
  return { factor, label: unit ? `${label} (${unit})`.trim() : label, told: unit ? `${unit} ${label}`.trim() : label, log };
}

function axesOf(plot, narrow) {
  const { bars, curves } = plot;
  const x = axisOf(plot.x_label ?? "", plot.x_log, bars.length ? 1 : largest(curves.map((curve) => curve.x ?? [])));
  const y = { ...axisOf(plot.y_label ?? "", plot.y_log, largest(curves.map((curve) => curve.y ?? []))), zero: plot.from_zero };
  if (plot.y_range) y.range = [plot.y_range[0], plot.y_range[1] + 0.03 * (plot.y_range[1] - plot.y_range[0])].map((end) => end / y.factor);
  if (plot.x_ticks.length) x.ticks = plot.x_ticks;
  if (!bars.length) return { x, y };
  // Bars have their names beside them, where there is room for these, and their texts at their ends.
  y.above = narrow && bars.some((bar) => bar.name.length > LONG);
  Object.assign(y, { ticks: bars.map((bar, place) => [bars.length - 1 - place, bar.name]), range: [-0.6, bars.length - (y.above ? 0.2 : 0.4)] });
  x.room = !bars.some((bar) => bar.text) ? 1.05 : narrow ? 1.5 : 1.3;
  return { x, y };
}

// A value that holds until the next point, as a line.
function stairs({ x, y }) {
  return { x: x.flatMap((one, place) => (place ? [x[place - 1], one] : [one])), y: y.flatMap((one, place) => (place ? [one, one] : [one])) };
}

function linesOf(plot, { x, y }) {
  const lines = plot.curves.map((curve) => {
    const { x: xs, y: ys } = curve.stairs ? stairs(curve) : curve;
    const line = { name: curve.called ?? curve.label ?? plot.title, names: curve.names, more: curve.more, x: column(xs, x.factor), y: column(ys, y.factor),
      colour: ink(curve.colour), alpha: 1, width: curve.width * 1.1, dash: DASHES[curve.style] ?? [], dots: !curve.style };
    if (curve.marker) Object.assign(line, { shape: SHAPES[curve.marker], size: Math.max(curve.style ? 6 : 8, curve.size * 2) });
    if (curve.low) Object.assign(line, { low: column(curve.low, y.factor), high: column(curve.high, y.factor) });
    return line;
  });
  const { bars } = plot;
  if (!bars.length) return lines;
  return [...lines, { name: plot.title, bars: true, x: column(bars.map((bar) => bar.value), x.factor), y: bars.map((_, place) => bars.length - 1 - place),
    names: bars.map((bar) => bar.name), colours: bars.map((bar) => ink(bar.colour)), ends: bars.map((bar) => bar.text ?? ""),
    texts: bars.map((bar) => `${bar.name}: ${short(bar.value)} ${plot.x_label}${bar.text?.includes("%") ? bar.text.slice(bar.text.indexOf(" (")) : ""}`) }];
}

const spansOf = (plot, axes) => plot.spans.map((span) => ({ axis: span.axis, low: span.low / axes[span.axis].factor, high: span.high / axes[span.axis].factor,
  colour: ink(span.colour), dash: DASHES[span.style] ?? [] }));

// --- the page ---

const KEYS = "Left and right go along a line, up and down to another one; plus and minus zoom, 0 shows all.";

function make(name, text, settings = {}) {
  return Object.assign(document.createElement(name), { textContent: text, ...settings });
}

// A line for each name: its colour, and what its points or strokes look like.
function legendOf(plot) {
  const looks = plot.spans.map((span) => ({ ...span, look: span.low === span.high ? span.style : "area" }))
    .concat(plot.curves.map((curve) => ({ ...curve, look: curve.style || SHAPES[curve.marker] })));
  const named = new Map(looks.filter((one) => one.label).map((one) => [one.label, one]));
  if (!named.size || looks.length < 2) return "";
  const legend = make("ul", "", { className: "legend" });
  for (const { label, colour, look } of named.values()) {
    const item = make("li", label);
    item.dataset.look = look;
    item.style.setProperty("--own", ink(colour));
    legend.append(item);
  }
  return legend;
}

// For fingers, which scroll the page and so cannot drag over a part.
function buttonsOf(chart, title) {
  const buttons = make("div", "", { className: "buttons" });
  for (const [act, sign, words] of [["in", "+", "zoom in"], ["out", "\u2212", "zoom out"], ["left", "\u2190", "go left"], ["right", "\u2192", "go right"],
    ["reset", "all", "show all"]]) {
    const button = make("button", sign, { type: "button", onclick: () => chart.act(act) });
    button.setAttribute("aria-label", `${words}: ${title}`);
    buttons.append(button);
  }
  return buttons;
}

async function draw(picture, plot) {
  const box = make("div", "", { className: "chart", tabIndex: 0, role: "group" });
  box.setAttribute("aria-label", `${picture.alt} ${KEYS}`);
  const readout = make("p", "", { className: "readout", role: "status" });
  const caption = make("figcaption", plot.note ? `${plot.title} (${plot.note})` : plot.title);
  let legend = make("span");
  picture.after(caption, box, readout, legend);
  picture.hidden = true;
  const chart = new Chart(box, readout, () => {}), axes = axesOf(plot, box.clientWidth < NARROW);
  if (plot.bars.length) box.style.height = `${80 + (axes.y.above ? 44 : 30) * plot.bars.length}px`;
  if (!plot.bars.length) box.after(buttonsOf(chart, plot.title));
  const show = () => {
    const fresh = legendOf(plot) || make("span");
    legend.replaceWith(fresh);
    legend = fresh;
    return chart.draw(linesOf(plot, axes), axes, spansOf(plot, axes));
  };
  DARK.addEventListener("change", show);
  await show();
}

const plots = JSON.parse(document.getElementById("plots").textContent);
const pictures = plots.map((plot) => document.querySelector(`img[data-plot="${plot.number}"]`));
let started = null;
const watch = new IntersectionObserver((seen) => {
  for (const one of seen.filter((entry) => entry.isIntersecting)) {
    watch.unobserve(one.target);
    started ??= library();
    started.then(() => draw(one.target, plots[pictures.indexOf(one.target)])).catch((error) => {
      console.warn("the picture stays:", error);
      one.target.parentElement.replaceChildren(one.target);
      one.target.hidden = false;
    });
  }
}, { rootMargin: "400px" });
for (const picture of pictures) watch.observe(picture);
