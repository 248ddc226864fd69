// The curves of a page that lies in one file: drawn by Bokeh in place of the pictures, which stay where this cannot run.

const DARK_INK = { "#2563ab": "#6cb0ff", "#c2571a": "#ff9a57", "#8a8f98": "#a3abb6", "#c9d4e3": "#4a5a70" };

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

const column = (values, factor) => Float64Array.from(values, (value) => (value === null ? NaN : value / factor));
const largest = (curves, name) => curves.flatMap((curve) => curve[name]).reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0);

// An axis in units that its numbers are read in: 5 of "tokens (M)".
function axisOf(label, most) {
  const [factor, unit] = prefixOf(most);
  return { factor, label: unit ? `${label} (${unit})` : label, told: unit ? `${unit} ${label}` : label, log: false };
}

// A value that holds until the next point, as a line.
function stairs({ x, y }) {
  return { x: x.flatMap((one, place) => (place ? [x[place - 1], one] : [one])), y: y.flatMap((one, place) => (place ? [one, one] : [one])) };
}

function draw(picture, plot) {
  const figure = picture.parentElement, part = (name, text, settings = {}) => {
    const element = Object.assign(document.createElement(name), { textContent: text, ...settings });
    figure.append(element);
    return element;
  };
  part("figcaption", plot.title);
  const box = part("div", "", { className: "chart", tabIndex: 0, role: "group" });
  box.setAttribute("aria-label", `${plot.title}. Left and right go along a curve, up and down to another one; plus and minus zoom, 0 shows all.`);
  const readout = part("p", "", { className: "readout", role: "status" });
  const x = axisOf(plot.x_label, largest(plot.curves, "x")), y = { ...axisOf(plot.y_label, largest(plot.curves, "y")), zero: plot.from_zero };
  const ink = (colour) => (matchMedia("(prefers-color-scheme: dark)").matches ? DARK_INK[colour] ?? colour : colour);
  const lines = () => plot.curves.flatMap((curve) => {
    const { x: xs, y: ys } = curve.stairs ? stairs(curve) : curve;
    const line = { name: curve.label || plot.title, x: column(xs, x.factor), y: column(ys, y.factor), colour: ink(curve.colour), alpha: 1,
      width: 1.6, dash: curve.style === "--" ? [6, 4] : [] };
    return curve.marker ? [line, { ...line, dots: true }] : [line];
  });
  const chart = new Chart(box, readout, () => {});
  const named = [...new Map(plot.curves.filter((curve) => curve.label).map((curve) => [curve.label, curve])).values()];
  if (named.length > 1) {
    const legend = part("ul", "", { className: "legend" });
    for (const curve of named) {
      const item = Object.assign(document.createElement("li"), { textContent: curve.label });
      item.style.setProperty("--own", ink(curve.colour));
      legend.append(item);
    }
  }
  picture.hidden = true;
  return chart.draw(lines(), { x, y });
}

const plots = JSON.parse(document.getElementById("plots").textContent);
const pictures = plots.map((plot) => document.querySelector(`img[data-plot="${plot.number}"]`));
let started = null;
const watch = new IntersectionObserver((seen) => {
  for (const one of seen.filter((entry) => entry.isIntersecting)) {
    watch.unobserve(one.target);
    started ??= library();
    started.then(() => draw(one.target, plots[pictures.indexOf(one.target)])).catch(() => { one.target.hidden = false; });
  }
}, { rootMargin: "400px" });
for (const picture of pictures) watch.observe(picture);
