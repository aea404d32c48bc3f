// A rollout: where it stands, what it waits for, what it watches, and its devices by the page.

import { bar, experiment } from "./chart.js";
import { count, facts, h, link, table, time, word } from "./dom.js";

const STAGES = ["measuring", "deciding", "canary", "wave", "done"];
const ENDED = ["done", "reverted", "aborted", "inconclusive"];
const STATUSES = ["confirmed", "failed", "offered", "waiting", "unreachable", "declined"];

export async function rollout(get, route, act) {
  const address = `/rollouts/${encodeURIComponent(route.name)}`;
  const seen = await get(`${address}/view`), state = seen.rollout;
  const ask = (action, text, kind) => h("button", { class: kind, onclick: () => act(state, action) }, text);
  const steps = STAGES.includes(state.stage) ? STAGES : [...STAGES.slice(0, 4), state.stage];
  return [
    h("h1", {}, `Rollout ${state.id}`),
    facts(plan(state)),
    h("ol", { class: "steps", "aria-label": "Stages" }, steps.map((step) =>
      h("li", { "aria-current": step === state.stage ? "step" : null }, step === "wave" && state.stage === "wave" ? `wave ${state.wave} of ${state.waves}` : step))),
    ENDED.includes(state.stage) ? null
      : h("p", {}, state.stage === "paused" ? ask("resume", "Resume", "main") : ask("pause", "Pause"), " ", ask("abort", "Abort and return every device", "danger")),
    waiting(seen.explanation),
    watching(seen.explanation),
    state.stage === "measuring" ? experiment(await get(`${address}/experiment`)) : null,
    seen.lanes.map((each) => stratum(state, each)),
    h("h2", {}, "History"),
    table("History", ["at", "what"], (state.history ?? []).toReversed().map((line) => [time(line.at), line.text])),
  ];
}

const percent = (share) => `${Number((100 * share).toPrecision(4))} %`;

function plan({ plan: wanted, ...state }) {
  const phases = Object.entries(wanted.phase_seconds ?? {}).map(([phase, seconds]) => `${phase} ${seconds} s`).join(", ");
  const between = wanted.between;
  return [
    ["model", `${state.model} ${wanted.version}`],
    ["objective", wanted.variant ? "none: chosen by the operator" : wanted.objective],
    ["only", wanted.only],
    ["window", wanted.window && `${wanted.window}${state.opens_at ? `; opens ${time(state.opens_at)}` : ""}`],
    ["checks", wanted.checks],
    ["deadlines", `${wanted.wave_seconds} s for each wave${phases ? `; in a phase: ${phases}` : ""}`],
    ["between devices", between && `${percent(between.share)} beside as many that wait, for ${between.seconds} s; at most ${percent(between.max_excess)} more may fail`],
    ["compared", state.compared],
    ["after", state.after],
    ["started", time(state.started_at)],
    ["because", state.reason],
  ];
}

function waiting(told) {
  const now = told.waves.filter((wave) => wave.turn === "now");
  const lines = [...told.waits_for, ...now.flatMap((wave) => wave.waits_for ?? [])];
  const stops = now.flatMap((wave) => wave.stopped_by ?? []);
  return lines.length || stops.length ? [
    h("h2", {}, "What it waits for"),
    h("ul", {}, lines.map((line) => h("li", {}, line))),
    stops.length ? [h("p", { class: "quiet" }, "Everything returns after:"), h("ul", {}, stops.map((line) => h("li", {}, line)))] : null,
  ] : null;
}

function watching(told) {
  const watches = told.watches ?? [];
  return watches.length ? [
    h("h2", {}, "Watch for harm"),
    watches.map((watch) => [
      h("h3", {}, `${watch.lane}: ${watch.what}`),
      bar(watch.e_value, watch.stops_at, "bad"),
      h("p", {}, `e-value ${watch.e_value.toPrecision(3)} of ${watch.stops_at.toPrecision(3)}, at which everything returns; ${watch.text}`),
    ]),
  ] : null;
}

function stratum(state, { lane, waves, examples = [], spoken }) {
  const devices = `#/rollouts/${encodeURIComponent(state.id)}/devices`;
  const joined = lane.joined ? h("p", {}, `${count(lane.joined)} device(s) joined the last wave after the decision.`) : null;
  return [
    h("h2", {}, lane.label),
    h("p", {}, word(lane.verdict), ` ${lane.winner_label ?? ""} `, lane.decision ? link(`#/decisions/${lane.decision}`, "why") : null),
    lane.held ? h("p", {}, h("strong", { class: "bad" }, "Held: "), lane.held) : h("p", { class: "quiet" }, lane.reason),
    lane.winner ? [progress(waves), joined, waveTable(waves, devices)] : null,
    examples.length ? h("h3", {}, "Devices with something to say") : null,
    examples.length ? table("Devices with something to say", ["device", "status", "because"], examples.map(memberRow)) : null,
    spoken > examples.length ? h("p", { class: "quiet" }, `${count(examples.length)} of ${count(spoken)}; `, link(`${devices}?status=failed`, "every device that failed")) : null,
  ];
}

function waveTable(waves, devices) {
  return table("Waves", ["wave", "reaches", "devices", ...STATUSES], waves.map((each) => [
    link(`${devices}?wave=${each.wave}`, each.wave ? `wave ${each.wave}` : "canary"), each.step, count(each.devices),
    ...STATUSES.map((status) => count(each.statuses[status] ?? 0))]));
}

function progress(waves) {
  const states = Object.fromEntries(STATUSES.map((status) => [status, waves.reduce((total, each) => total + (each.statuses[status] ?? 0), 0)]));
  const all = waves.reduce((total, each) => total + each.devices, 0);
  const text = STATUSES.filter((status) => states[status]).map((status) => `${count(states[status])} ${status}`).join(", ");
  const part = (status, kind) => { const made = h("span", { class: kind }); made.style.width = `${(100 * states[status]) / (all || 1)}%`; return made; };
  return [h("div", { class: "bar", "aria-hidden": "true" }, part("confirmed", "good"), part("failed", "bad"), part("offered", "wait")), h("p", {}, text)];
}

const memberRow = (member) => [link(`#/devices/${member.device}`, member.device), word(member.status), member.reason];

export async function members(get, route) {
  const page = await get(`/rollouts/${encodeURIComponent(route.name)}/devices?${route.query}`);
  const here = `#/rollouts/${encodeURIComponent(route.name)}`, last = page.members.at(-1)?.device;
  const following = new URLSearchParams(route.query), shown = [...route.query].filter(([key]) => key !== "after").map((pair) => pair.join(" ")).join(", ");
  if (last) following.set("after", last);
  return [
    h("h1", {}, `Devices of rollout ${route.name}`),
    h("p", {}, link(here, "The rollout"), `: ${count(page.total)} devices${shown ? ` (${shown})` : ""}`),
    table("Devices of the rollout", ["device", "wave", "presence", "status", "phase", "because"], page.members.map((member) => [
      link(`#/devices/${member.device}`, member.device), member.wave ? `wave ${member.wave}` : "canary", member.online ? "online" : "offline",
      word(member.status), member.status === "offered" ? (member.leg ?? "accept") : null, member.reason])),
    page.members.length >= 100 ? h("p", {}, link(`${here}/devices?${following}`, "Next page")) : null,
  ];
}
