// One pair of axes, drawn by Bokeh: many lines in one glyph, a readout of the nearest point for mouse and keys.

const PALETTE = {
  light: ["#1f5fa8", "#b34700", "#1f7a3d", "#7a3b9c", "#8a6d00", "#0f7a86", "#b3265e", "#4f5b66"],
  dark: ["#6cb0ff", "#ff9a57", "#6fd08c", "#c79bf0", "#e0c04f", "#5fd0dc", "#ff86b3", "#b8c2cc"],
};
const DARK = matchMedia("(prefers-color-scheme: dark)");
const PREFIXES = [[1e24, "Y"], [1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const ENERGIES = [[1e3, "MWh"], [1, "kWh"], [1e-3, "Wh"], [1e-6, "mWh"], [1e-9, "µWh"]];

export const colourAt = (slot) => PALETTE[DARK.matches ? "dark" : "light"][slot % 8];

// The size and the letter of the largest prefix below a number.
export const prefixOf = (largest) => PREFIXES.find(([size]) => largest >= size && size >= 1) ?? PREFIXES.at(-1);

// By what the numbers of an axis are divided, what its label says, and how one of them is told: 5 M tokens, 3.2 h, 40 Wh.
export function unitOf(axis, largest) {
  if (axis === "step") return { factor: 1, label: "steps", told: "steps" };
  const table = axis === "seconds" ? TIMES : axis === "kwh" ? ENERGIES : PREFIXES;
  const [factor, unit] = table.find(([size]) => largest >= size) ?? table.at(-1);
  if (axis === "seconds") return { factor, label: `time of all attempts (${unit})`, told: unit };
  if (axis === "kwh") return { factor, label: `energy (${unit})`, told: unit };
  const name = axis === "flop" ? "model FLOPs" : "tokens";
  return { factor, label: unit ? `${name} (${unit})` : name, told: unit ? `${unit} ${name}` : name };
}

export const short = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(4)
  : String(Number(value.toPrecision(6))));

export class Chart {
  // element: the box; readout: where the nearest point is told; onView(low, high): the user looks at this part of x.
  constructor(element, readout, onView) {
    Object.assign(this, { element, readout, onView, lines: [], key: "", view: null, at: null });
    this.tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
    this.tip.setAttribute("aria-hidden", "true");
    this.box = Object.assign(document.createElement("div"), { className: "canvas" });
    element.replaceChildren(this.box, this.tip);
    element.chart = this;
    element.addEventListener("keydown", (event) => this.onKey(event));
    element.addEventListener("mouseleave", () => this.hide());
    DARK.addEventListener("change", () => { this.key = ""; this.redraw?.(); });
  }

  // lines: [{id, name, x, y, colour, alpha, width, dots, mark}]; x in the axis' own unit, NaN: not stated. A line of dots
  // or marks has no stroke, one with a shape and a stroke has both; low, high: an interval about each y; bars: y says
  // where each stands, texts what is said of it. spans: [{axis, low, high, colour, dash}].
  async draw(lines, axes, spans = []) {
    this.redraw = () => this.draw(lines, axes, spans);
    this.axes = axes;
    this.spans = spans;
    this.lines = lines.filter((line) => line.x.length);
    this.at = null;
    const key = JSON.stringify([axes, spans]);
    if (key !== this.key) await this.build(key);
    const bars = this.lines.filter((line) => line.bars);
    const strokes = this.lines.filter((line) => !line.dots && !line.mark && !line.bars);
    const dots = this.lines.filter((line) => line.dots || line.mark || line.shape);
    const whiskers = dots.filter((line) => line.low).flatMap((line) => Array.from(line.x, (x, place) => (
      { ...line, x: [x, x], y: [line.low[place], line.high[place]], dash: [] })));
    const all = [...strokes, ...whiskers], each = (name) => all.map((line) => line[name]);
    this.strokes.data = { xs: each("x"), ys: each("y"), colour: each("colour"), alpha: each("alpha"), width: each("width"),
      dash: all.map((line) => line.dash ?? []) };
    const bands = strokes.filter((line) => line.low && !line.shape).map(bandOf);
    this.bands.data = { xs: bands.map((band) => band.x), ys: bands.map((band) => band.y), colour: bands.map((band) => band.colour) };
    const flat = (some, make) => some.flatMap((line) => Array.from(line.x, (_, place) => make(line, place)));
    const points = (some) => ({ x: flat(some, (line, place) => line.x[place]), y: flat(some, (line, place) => line.y[place]) });
    this.dots.data = { ...points(dots), colour: flat(dots, (line) => line.colour), size: flat(dots, (line) => (line.mark ? 11 : line.size ?? 6)),
      shape: flat(dots, (line) => (line.mark ? "diamond" : line.shape ?? "circle")), edge: flat(dots, (line) => (line.shape ? 0.3 : 1)) };
    this.bars.data = { ...points(bars), colour: flat(bars, (line, place) => line.colours[place]), text: flat(bars, (line, place) => line.ends[place]),
      name: flat(bars, (line, place) => line.names[place]) };
    this.fit();
  }

  async build(key) {
    const style = getComputedStyle(document.documentElement);
    const [ink, faint, line, paper] = ["--ink", "--faint", "--line", "--paper"].map((name) => style.getPropertyValue(name).trim());
    const { x, y } = this.axes;
    const range = (log) => new Bokeh.Range1d(log ? { start: 0.1, end: 1 } : { start: 0, end: 1 });
    const figure = Bokeh.Plotting.figure({
      sizing_mode: "stretch_both", toolbar_location: null, tools: [], min_border: 6, min_border_right: 18, lod_threshold: null,
      x_axis_type: x.log ? "log" : "linear", y_axis_type: y.log ? "log" : "linear",
      x_range: range(x.log), y_range: range(y.log), x_axis_label: x.label, y_axis_label: y.label,
      background_fill_color: paper, border_fill_color: paper, outline_line_color: line,
    });
    for (const axis of [...figure.xaxis, ...figure.yaxis]) {
      Object.assign(axis, { axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: null,
        major_label_text_color: faint, major_label_text_font_size: "12px", axis_label_text_color: ink,
        axis_label_text_font_size: "13px", axis_label_text_font_style: "normal" });
    }
    this.sides = { x: [...figure.xaxis, ...figure.xgrid], y: [...figure.yaxis, ...figure.ygrid] };
    for (const [name, { ticks }] of Object.entries(this.axes)) if (ticks) this.mark(name, ticks);
    if (y.ticks) this.sides.y[1].visible = false;
    if (y.above) this.sides.y[0].visible = false;
    for (const grid of [...figure.xgrid, ...figure.ygrid]) grid.grid_line_color = line;
    // A drag zooms, a wheel with ctrl too; fingers scroll the page, and zoom by the buttons.
    figure.add_tools(new Bokeh.WheelZoomTool({ modifiers: { ctrl: true } }));
    if (matchMedia("(pointer: fine)").matches) figure.add_tools(new Bokeh.BoxZoomTool());
    this.bands = new Bokeh.ColumnDataSource({ data: { xs: [], ys: [], colour: [] } });
    this.bars = new Bokeh.ColumnDataSource({ data: { x: [], y: [], colour: [], text: [], name: [] } });
    this.strokes = new Bokeh.ColumnDataSource({ data: { xs: [], ys: [], colour: [], alpha: [], width: [], dash: [] } });
    this.dots = new Bokeh.ColumnDataSource({ data: { x: [], y: [], colour: [], size: [], shape: [], edge: [] } });
    this.cursor = new Bokeh.ColumnDataSource({ data: { x: [], y: [] } });
    const field = (name) => ({ field: name });
    for (const span of this.spans) figure.add_layout(spanOf(span));
    figure.patches({ xs: field("xs"), ys: field("ys"), source: this.bands, fill_color: field("colour"), fill_alpha: 0.15, line_color: null });
    figure.hbar({ y: field("y"), left: 0, right: field("x"), height: y.above ? 0.4 : 0.6, source: this.bars, fill_color: field("colour"), line_color: null });
    const words = { y: field("y"), source: this.bars, text_font_size: "12px", text_color: ink };
    figure.text({ ...words, x: field("x"), text: field("text"), x_offset: 6, text_baseline: "middle" });
    if (y.above) figure.text({ ...words, x: 0, text: field("name"), x_offset: 4, y_offset: -10, text_baseline: "bottom" });
    figure.multi_line({ xs: field("xs"), ys: field("ys"), source: this.strokes, line_color: field("colour"),
      line_alpha: field("alpha"), line_width: field("width"), line_dash: field("dash"), line_join: "round" });
    figure.scatter({ x: field("x"), y: field("y"), source: this.dots, size: field("size"), marker: field("shape"),
      fill_color: field("colour"), line_color: paper, line_width: field("edge") });
    figure.scatter({ x: field("x"), y: field("y"), source: this.cursor, size: 11, fill_color: null, line_color: ink, line_width: 2 });
    for (const name of ["mousemove", "tap"]) figure.on_event(name, (event) => this.point(event.x, event.y, event.sx, event.sy));
    figure.on_event("doubletap", () => this.show(null));
    for (const end of ["start", "end"]) figure.x_range.properties[end].change.connect(() => this.moved());
    this.figure = figure;
    this.box.replaceChildren();
    await Bokeh.Plotting.show(figure, this.box);
    this.key = key;
  }

  // Let an axis and its grid have these ticks: [place, label].
  mark(name, ticks) {
    const [axis, grid] = this.sides[name];
    axis.major_label_overrides = new Map(ticks);
    axis.ticker = grid.ticker = new Bokeh.FixedTicker({ ticks: ticks.map(([place]) => place) });
  }

  moved() {
    if (this.own) return;
    const { start, end } = this.figure.x_range;
    if (this.axes.x.log) this.mark("x", logTicks(start, end));
    this.view = [start, end];
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.onView(start, end), 120);
  }

  set(range, [start, end]) {
    this.own = true;
    range.setv({ start, end });
    this.own = false;
    const name = range === this.figure.x_range ? "x" : "y";
    if (this.axes[name].log) this.mark(name, logTicks(start, end));
  }

  // The extent of what is drawn, of y within the view.
  extent(name, log, low = -Infinity, high = Infinity) {
    let least = Infinity, most = -Infinity;
    const take = (value) => {
      if (!(value > (log ? 0 : -Infinity)) || value === Infinity) return;
      if (value < least) least = value;
      if (value > most) most = value;
    };
    for (const line of this.lines) {
      const columns = name === "y" && line.low ? [line.y, line.low, line.high] : [line[name]];
      for (let place = 0; place < line.x.length; place++) {
        if (line.x[place] < low || line.x[place] > high) continue;
        for (const column of columns) take(column[place]);
      }
    }
    for (const span of this.spans ?? []) if (span.axis === name) [span.low, span.high].forEach(take);
    if (least > most) return log ? [0.1, 1] : [0, 1];
    if (log) return [least / (most / least) ** 0.03 * 0.999, most * (most / least) ** 0.03 * 1.001];
    const room = (most - least || Math.abs(most) || 1) * 0.03;
    return [least - room, most + room];
  }

  fit() {
    const { x, y } = this.axes;
    if (this.view && this.boxed) return;
    if (!this.view) {
      const [low, high] = this.extent("x", x.log);
      this.set(this.figure.x_range, x.room ? [0, x.room * high] : [low, high]);
    }
    if (y.range) return this.set(this.figure.y_range, y.range);
    const { start, end } = this.figure.x_range;
    const [low, high] = this.extent("y", y.log, start, end);
    this.set(this.figure.y_range, [y.zero ? Math.min(low, 0) : low, high]);
  }

  // Show this part of x, or all of it.
  show(view) {
    this.view = view;
    if (view) this.set(this.figure.x_range, view);
    this.fit();
    this.onView(...(view ?? [null, null]));
  }

  act(name) {
    if (!this.figure) return;
    if (name === "reset") return this.show(null);
    const log = this.axes.x.log, to = log ? Math.log10 : Number, from = log ? (value) => 10 ** value : Number;
    const [start, end] = [this.figure.x_range.start, this.figure.x_range.end].map(to), size = end - start;
    const [left, right] = { in: [0.25, -0.25], out: [-0.5, 0.5], left: [-0.25, -0.25], right: [0.25, 0.25] }[name];
    this.show([from(start + left * size), from(end + right * size)]);
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.lines.length) return;
    const zoom = { "+": "in", "=": "in", "-": "out", 0: "reset" }[event.key];
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key];
    if (zoom) this.act(zoom);
    else if (move) this.step(...move);
    else return;
    event.preventDefault();
  }

  // Go along a line, or to the next one at about the same x; where there is one line, all keys go along it.
  step(lines, points) {
    if (this.lines.length === 1) points += lines;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    const old = this.at ?? { line: 0, place: Math.floor(this.lines[0].x.length / 2) };
    const line = clamp(old.line + (this.at ? lines : 0), this.lines.length - 1);
    const x = this.lines[line].x;
    const place = line === old.line ? clamp(old.place + (this.at ? points : 0), x.length - 1) : nearestIn(x, this.lines[old.line].x[old.place]);
    this.tell(line, place);
  }

  // The point that is nearest on the screen.
  point(x, y, sx, sy) {
    const { x_range, y_range } = this.figure, { log: logX } = this.axes.x, { log: logY } = this.axes.y;
    const place = (value, range, log) => (log ? Math.log(value / range.start) / Math.log(range.end / range.start)
      : (value - range.start) / (range.end - range.start));
    const wide = this.element.clientWidth, high = this.element.clientHeight;
    const at = [place(x, x_range, logX) * wide, place(y, y_range, logY) * high];
    let best = null;
    this.lines.forEach((line, number) => {
      const most = line.x.length - 1, middle = nearestIn(line.x, x), loose = line.bars || line.shape; // many may share an x
      for (let one = loose ? 0 : Math.max(0, middle - 8); one <= (loose ? most : Math.min(most, middle + 8)); one++) {
        const far = Math.hypot(place(line.x[one], x_range, logX) * wide - at[0], place(line.y[one], y_range, logY) * high - at[1]);
        if (far < (best?.far ?? Infinity)) best = { far, line: number, place: one };
      }
    });
    if (best) this.tell(best.line, best.place, sx, sy);
  }

  tell(number, place, sx, sy) {
    const line = this.lines[number], x = line.x[place], y = line.y[place];
    this.at = { line: number, place };
    this.cursor.data = { x: [x], y: [y] };
    const text = line.bars ? line.texts[place] : this.wordsOf(line, place);
    this.readout.textContent = text;
    this.tip.textContent = text;
    this.tip.hidden = sx === undefined;
    if (sx !== undefined) {
      const right = sx > this.element.clientWidth / 2;
      Object.assign(this.tip.style, { top: `${Math.max(0, sy - 12)}px`, left: right ? "auto" : `${sx + 14}px`,
        right: right ? `${this.element.clientWidth - sx + 14}px` : "auto" });
    }
  }

  // A point in words.
  wordsOf(line, place) {
    const { x: along, y: up } = this.axes, x = line.x[place], y = line.y[place], low = line.low?.[place];
    const within = low === undefined || Number.isNaN(low) ? "" : ` (${short(low)} to ${short(line.high[place])})`;
    const what = line.texts?.[place] ?? `${up.short ?? up.label} ${Number.isNaN(y) ? "not stated" : short(y)}${within}`.trim();
    const at = along.ticks?.find(([tick]) => tick === x)?.[1] ?? short(x), more = line.more?.[place];
    return `${line.names?.[place] ?? line.name}: ${what} at ${at} ${along.told}${more ? `; ${more}` : ""}`;
  }

  hide() {
    this.tip.hidden = true;
  }
}

// The outline of an interval about a line, where it is stated.
function bandOf({ x, low, high, colour }) {
  const there = Array.from(x.keys()).filter((place) => Number.isFinite(low[place]) && Number.isFinite(high[place]));
  const back = there.toReversed(), of = (column) => (place) => column[place];
  return { x: [...there, ...back].map(of(x)), y: [...there.map(of(high)), ...back.map(of(low))], colour };
}

// [place, label] of the ticks of a logarithmic axis: the coarsest of these parts of powers of ten that make four, else even steps.
const PARTS = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]];
function logTicks(start, end) {
  const within = (place) => place >= start && place <= end, first = Math.floor(Math.log10(start)), last = Math.ceil(Math.log10(end));
  const powers = Array.from({ length: last - first + 1 }, (_, number) => first + number), stride = Math.ceil(powers.length / 8);
  const some = powers.filter((power) => power % stride === 0);
  const tried = PARTS.map((parts) => some.flatMap((power) => parts.map((part) => Number(`${part}e${power}`))).filter(within));
  const found = tried.find((places) => places.length >= 4) ?? evenSteps(start, end);
  const large = found.at(-1) >= 1e5;
  return found.map((place) => [place, powerLabel(place, large)]);
}

function evenSteps(start, end) {
  const size = 10 ** Math.floor(Math.log10(end - start)), step = [0.1, 0.2, 0.5, 1, 2].map((one) => one * size).find((one) => (end - start) / one <= 7);
  const first = Math.ceil(start / step);
  return Array.from({ length: Math.floor(end / step) - first + 1 }, (_, number) => Number(((first + number) * step).toPrecision(8)));
}

// 2000, but 2·10¹², and 2·10³ on an axis of such numbers.
function powerLabel(value, large) {
  const [part, power] = value.toExponential().split("e").map(Number);
  if (power > -4 && power < (large ? 3 : 5)) return String(value);
  const raised = String(power).replace(/./g, (one) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[one] ?? "⁻");
  return part === 1 ? `10${raised}` : `${part}·10${raised}`;
}

// A stretch of one axis, behind all lines.
function spanOf({ axis, low, high, colour, dash }) {
  if (low === high) {
    return new Bokeh.Span({ dimension: axis === "x" ? "height" : "width", location: low, line_color: colour, line_dash: dash, level: "underlay" });
  }
  const ends = axis === "x" ? { left: low, right: high } : { bottom: low, top: high };
  return new Bokeh.BoxAnnotation({ ...ends, fill_color: colour, fill_alpha: 0.15, line_color: null, level: "underlay" });
}

// The place of the value in an ascending column that is nearest to x.
function nearestIn(column, x) {
  let low = 0, high = column.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - column[low - 1] < column[low] - x ? low - 1 : low;
}
