// Two pictures: a front (latency against error, size as area), and evidence on its way to a decision.

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
  const names = known.filter((point) => point.on_front).map((point) => h("text", { x: x(point.latency_ns) + 22, y: y(point.error) + 4 }, point.label));
  const summary = known.filter((point) => point.on_front).map((point) => point.label).join(", ");
  return h("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Latency against error. On the front: ${summary}` },
    h("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    h("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: HEIGHT - BOTTOM }),
    x.ticks.map((value) => h("text", { x: x(value), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }, amount(value, "ns"))),
    y.ticks.map((value) => h("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, amount(value))),
    h("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "latency, median; area: size"),
    h("text", { x: LEFT + 6, y: TOP + 12 }, "error"),
    dots, names);
}

function scale(values, from, to) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low || Math.abs(high) || 1) * 0.25;
  const [a, b] = [low - pad, high + pad];
  const place = (value) => from + ((value - a) / (b - a)) * (to - from);
  place.ticks = high > low ? [low, (low + high) / 2, high] : [low];
  return place;
}

export function bar(value, needed, kind) {
  const part = h("span", { class: kind });
  part.style.width = `${100 * Math.max(0, Math.min(1, Math.log(Math.max(value, 1)) / Math.log(needed)))}%`;
  return h("div", { class: "bar", "aria-hidden": "true" }, part);
}

function evidence(proof) {
  // How far the evidence is on its way to what it has to reach, on a logarithmic scale, and what the data leave open.
  const needed = 1 / fraction(proof.rate);
  const percent = (ratio) => (ratio === null || ratio === undefined ? "anything" : `${((ratio - 1) * 100).toFixed(1)} %`);
  return [
    bar(proof.e_promote, needed, "good"),
    h("p", {}, `e-value ${proof.e_promote.toPrecision(3)} of ${needed.toPrecision(3)} for a gain; ${proof.wins} wins and ${proof.losses} losses in ${proof.units} units; `,
      proof.scope === "fact" ? "a fact about the variant" : `the change lies between ${percent(proof.low)} and ${percent(proof.high)}`),
  ];
}

function fraction(text) {
  const [above, below = "1"] = String(text).split("/");
  return Number(above) / Number(below);
}

export function proofs(made) {
  const labels = new Map(made.candidates.map((each) => [each.manifest, each.label]));
  const shown = made.proofs ?? [];
  return shown.length ? [h("h3", {}, "Evidence"), shown.map((proof) => [
    h("p", {}, `${labels.get(proof.candidate) ?? proof.candidate}, ${proof.metric}`), evidence(proof)])] : null;
}

export function experiment(seen) {
  return [
    h("h2", {}, "The experiment so far"),
    h("p", { class: "quiet" }, seen.waiting_for.length ? `Waiting for ${seen.waiting_for.slice(0, 5).join("; ")}` : "Every device that can be asked has answered."),
    seen.decisions.map((made) => [h("p", {}, h("strong", {}, made.stratum.profile), ` would be: ${made.verdict} ${made.winner_label ?? ""}. ${made.reasons[0] ?? ""}`), proofs(made)]),
  ];
}
