// Elements from values: text is always text, never markup.

export function h(name, attributes = {}, ...children) {
  const svg = SVG.has(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = new Set(["svg", "line", "circle", "path", "text", "g", "title", "rect"]);

const NUMBER = /^-?[\d.,]+( [a-zµ%]+)?$/i;

export function table(caption, columns, rows) {
  const texts = (index) => rows.map((row) => row[index]).filter((cell) => cell !== null && cell !== undefined && cell !== "–");
  const kinds = columns.map((_, index) => {
    const cells = texts(index);
    return cells.length && cells.every((cell) => NUMBER.test(cell instanceof Node ? cell.textContent : String(cell))) ? "number" : null;
  });
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((column, index) => h("th", { scope: "col", class: kinds[index] }, column)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, index) => h("td", { class: kinds[index] }, cell ?? "–")))))));
}

export const facts = (pairs) => h("dl", {}, pairs.filter((pair) => pair[1] !== null && pair[1] !== undefined && pair[1] !== "")
  .map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]));

export const link = (href, text) => h("a", { href }, text);

export const count = (number) => Number(number).toLocaleString("en");

const YEAR_10000 = 253402300800; // a device's clock may say anything

export const time = (seconds) => {
  if (!seconds) return "–";
  if (seconds < 0 || seconds >= YEAR_10000) return `${Number(seconds).toPrecision(6)} s`;
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
};

export function amount(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "ns") return value >= 1e6 ? `${(value / 1e6).toPrecision(3)} ms` : `${(value / 1e3).toPrecision(3)} µs`;
  if (unit === "B") return value >= 2 ** 20 ? `${(value / 2 ** 20).toPrecision(3)} MiB` : `${(value / 1024).toPrecision(3)} KiB`;
  return Number(value).toPrecision(3);
}

export const sum = (rows, key) => rows.reduce((total, row) => total + row[key], 0);

const COLOUR = { done: "good", confirmed: "good", failed: "bad", reverted: "bad", reverting: "bad", aborted: "bad" };

export const word = (text) => h("span", { class: COLOUR[text] ?? null }, text);
