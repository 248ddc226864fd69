// Shift and a drag move the view of a chart along x; so does a finger that goes sideways (up and down it scrolls the page).

export function pannable(chart) {
  const { element } = chart;
  let from = null;
  const end = () => { from = null; };
  // Before the chart's own tools hear of it, which draw a box.
  element.addEventListener("pointerdown", (event) => {
    const touch = event.pointerType === "touch";
    if (!chart.figure || event.button !== 0 || !(touch || event.shiftKey)) return;
    if (!touch) {
      event.stopPropagation();
      event.preventDefault();
      element.focus();
      element.setPointerCapture(event.pointerId); // also beyond its edges
    }
    const log = chart.axes.x.log, { start, end } = chart.figure.x_range, wide = chart.figure.inner_width || element.clientWidth;
    from = { x: event.clientX, log, ends: [start, end].map(log ? Math.log10 : Number), wide, moved: !touch };
  }, true);
  element.addEventListener("pointermove", (event) => {
    if (!from) return;
    const far = event.clientX - from.x;
    if (!(from.moved ||= Math.abs(far) > 8)) return; // a finger that only taps
    const by = (far / from.wide) * (from.ends[1] - from.ends[0]);
    const [start, end] = from.ends.map((value) => (from.log ? 10 ** (value - by) : value - by));
    chart.set(chart.figure.x_range, [start, end]);
    chart.moved(); // asks for the points of this part, a moment after the last move
  }, true);
  element.addEventListener("pointerup", end, true);
  element.addEventListener("pointercancel", end, true);
  return chart;
}
