// Two pictures: a front (latency against error, size as area) and an effect with its interval.

import { amount, h } from "./dom.js";

const WIDTH = 640, HEIGHT = 340, LEFT = 70, BOTTOM = 44, TOP = 16, RIGHT = 20;

export function front(points) {
  const known = points.filter((point) => point.latency_ns !== null && point.error !== null);
  if (known.length === 0) return h("p", { class: "quiet" }, "No figures yet: nobody measured these variants.");
  const x = scale(known.map((point) => point.latency_ns), LEFT, WIDTH - RIGHT);
  const y = scale(known.map((point) => point.error), HEIGHT - BOTTOM, TOP);
  const largest = Math.max(...known.map((point) => point.size_bytes ?? 1));
  const dots = known.map((point) => h("circle", {
    class: point.on_front ? "front" : "rest", cx: x(point.latency_ns), cy: y(point.error),
    r: 4 + 12 * Math.sqrt((point.size_bytes ?? 1) / largest),
  }, h("title", {}, `${point.label}: ${amount(point.latency_ns, "ns")}, error ${amount(point.error)}, ${amount(point.size_bytes, "B")}`)));
  const summary = known.filter((point) => point.on_front).map((point) => point.label).join(", ");
  return h("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Latency against error. On the front: ${summary}` },
    h("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    h("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: HEIGHT - BOTTOM }),
    x.ticks.map((value) => h("text", { x: x(value), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }, amount(value, "ns"))),
    y.ticks.map((value) => h("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, amount(value))),
    h("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "latency, median; area: size"),
    h("text", { x: LEFT + 6, y: TOP + 12 }, "error"),
    dots);
}

function scale(values, from, to) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low || Math.abs(high) || 1) * 0.12;
  const [a, b] = [low - pad, high + pad];
  const place = (value) => from + ((value - a) / (b - a)) * (to - from);
  place.ticks = high > low ? [low, (low + high) / 2, high] : [low];
  return place;
}

export function evidence(steps, threshold) {
  // The logarithm of the e-value after each unit, against the threshold at which it decides.
  const values = [0, ...steps, Math.log10(threshold)];
  const x = scale([0, Math.max(steps.length, 1)], LEFT, WIDTH - RIGHT), y = scale(values, HEIGHT - BOTTOM, TOP);
  const path = [0, ...steps].map((value, index) => `${index ? "L" : "M"}${x(index)} ${y(value)}`).join("");
  return h("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `e-value after ${steps.length} units: ${(10 ** (steps.at(-1) ?? 0)).toPrecision(3)}; it decides at ${threshold}` },
    h("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: y(Math.log10(threshold)), y2: y(Math.log10(threshold)) }),
    h("text", { x: LEFT + 6, y: y(Math.log10(threshold)) - 6 }, `decides at ${threshold}`),
    h("path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": 2 }),
    h("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "units"));
}
