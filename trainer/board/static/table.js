// The table of runs: rows that come and change, filters, order, and which runs are drawn.

// 1 run, 1,000 runs.
export const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
const PATTERN = /^([\w.]+)(<=|>=|!=|=|<|>)(.*)$/;

export class Table {
  // onChange(): other runs are drawn, or shown.
  constructor(onChange) {
    this.rows = new Map(); // id -> {name, state, labels, element}
    this.picked = new Set();
    this.onChange = onChange;
    this.body = document.querySelector("#runs tbody");
    this.find = document.querySelector("#find");
    this.filters = new Map(); // key -> select
    this.order = { column: -1, down: true };
    for (const element of this.body.rows) this.rows.set(Number(element.dataset.run), { element, labels: {}, name: element.cells[0].dataset.sort, state: "" });
    this.find.addEventListener("input", () => this.filter());
    document.querySelector("#all").addEventListener("click", () => this.pick(this.shown()));
    document.querySelector("#none").addEventListener("click", () => this.pick([]));
    this.body.addEventListener("change", (event) => {
      if (!event.target.matches(".pick")) return;
      const id = Number(event.target.dataset.run);
      event.target.checked ? this.picked.add(id) : this.picked.delete(id);
      this.onChange();
    });
    for (const head of document.querySelectorAll("#runs th[data-column]")) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => this.sort(Number(head.dataset.column)));
    }
  }

  // Rows as the server tells them; of a row that stands already only what it says changes, so that focus stays.
  update(rows) {
    const template = document.createElement("template");
    template.innerHTML = `<table><tbody>${rows.map((row) => row.html).join("")}</tbody></table>`;
    const made = [...template.content.querySelectorAll("tr")];
    for (const [place, row] of rows.entries()) {
      const fresh = made[place], old = this.rows.get(row.id)?.element;
      if (old) {
        old.dataset.time = fresh.dataset.time;
        old.cells[0].querySelector("small").replaceWith(fresh.cells[0].querySelector("small"));
        Array.from(fresh.cells).slice(1).forEach((cell, column) => old.cells[column + 1].replaceWith(cell));
      } else {
        this.body.prepend(fresh);
      }
      this.rows.set(row.id, { ...row, element: old ?? fresh });
    }
    if (rows.length) this.filter(false);
  }

  offer(filters) {
    const keys = Object.keys(filters), place = document.querySelector("#filters");
    const states = [...new Set(Array.from(this.rows.values(), (row) => row.state))].sort(), offered = JSON.stringify([filters, states]);
    if (this.offered === offered) return;
    this.offered = offered;
    const focused = document.activeElement.closest?.("#filters select")?.dataset.key;
    const chosen = new Map(Array.from(this.filters, ([key, select]) => [key, select.value]));
    this.filters.clear();
    place.replaceChildren();
    for (const key of ["state", ...keys.filter((one) => filters[one].length).slice(0, 7)]) {
      const select = document.createElement("select"), label = document.createElement("label");
      const values = key === "state" ? states : filters[key].toSorted(compare), kept = chosen.get(key) ?? "";
      if (kept && !values.includes(kept)) values.push(kept); // no run is in that state now
      select.append(new Option("any", ""), ...values.map((value) => new Option(value, value)));
      select.value = kept;
      select.dataset.key = key;
      select.addEventListener("change", () => this.filter());
      label.append(`${key} `, select);
      place.append(label, " ");
      this.filters.set(key, select);
      if (key === focused) select.focus();
    }
  }

  filter(tell = true) {
    const words = this.find.value.trim().split(/\s+/).filter(Boolean);
    const wanted = Array.from(this.filters, ([key, select]) => [key, select.value]).filter(([, value]) => value);
    let shown = 0;
    for (const row of this.rows.values()) {
      const value = (key) => (key === "state" ? row.state : row.labels[key]);
      const fits = wanted.every(([key, one]) => value(key) === one) && words.every((word) => says(row, word));
      row.element.hidden = !fits;
      shown += fits;
    }
    document.querySelector("#found").textContent = `${shown.toLocaleString("en")} of ${counted(this.rows.size, "run")}`;
    if (tell) this.onChange();
  }

  shown() {
    return Array.from(this.rows).filter(([, row]) => !row.element.hidden).map(([id]) => id);
  }

  // The runs that are drawn: those that are picked, as far as the filters show them.
  drawn() {
    return [...this.picked].filter((id) => this.rows.has(id) && !this.rows.get(id).element.hidden && this.rows.get(id).drawable);
  }

  pick(ids) {
    this.picked = new Set(ids);
    for (const [id, row] of this.rows) row.element.querySelector(".pick").checked = this.picked.has(id);
    this.onChange();
  }

  colour(colours) {
    for (const [id, row] of this.rows) {
      const mark = row.element.querySelector(".pick");
      mark.style.accentColor = colours.get(id) ?? "";
    }
  }

  sort(column, down = this.order.column === column ? !this.order.down : column > 1) {
    this.order = { column, down };
    const key = (row) => (column < 0 ? row.element.dataset.time : row.element.cells[column].dataset.sort) ?? "";
    const sorted = [...this.rows.values()].sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // what is not stated stands last
      return (down ? -1 : 1) * compare(a, b);
    });
    this.body.append(...sorted.map((row) => row.element));
    for (const head of document.querySelectorAll("#runs th[data-column]")) {
      if (Number(head.dataset.column) === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }
}

function says(row, word) {
  const found = PATTERN.exec(word);
  if (!found) return `${row.name} ${row.state} ${Object.values(row.labels).join(" ")}`.toLowerCase().includes(word.toLowerCase());
  const [, key, sign, wanted] = found;
  const value = key === "state" ? row.state : row.labels[key];
  if (value === undefined || wanted === "") return wanted === "";
  const order = compare(value, wanted);
  return { "=": order === 0, "!=": order !== 0, "<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0 }[sign];
}

// Numbers by their size, other words by the alphabet.
function compare(one, other) {
  const [a, b] = [Number(one), Number(other)];
  if (one !== "" && other !== "" && !Number.isNaN(a) && !Number.isNaN(b)) return a - b;
  return String(one).localeCompare(String(other));
}
