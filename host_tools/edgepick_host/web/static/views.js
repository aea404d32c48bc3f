// What each address shows. A view takes (get, route) and returns elements; it changes nothing.

import { front, proofs } from "./chart.js";
import { amount, count, facts, h, link, sum, table, time, word } from "./dom.js";

const rolloutRow = (line) => [
  link(`#/rollouts/${line.id}`, line.id), `${line.model} ${line.version}`, word(line.stage),
  `${count(line.confirmed)} of ${count(line.devices)}`, line.failed ? h("span", { class: "bad" }, count(line.failed)) : "0",
  time(line.started_at), line.reason,
];
const ROLLOUTS = ["rollout", "model", "stage", "confirmed", "failed", "started", "because"];

export async function fleet(get) {
  const seen = await get("/fleet");
  const total = sum(seen.profiles, "devices"), online = sum(seen.profiles, "online");
  const refused = sum(seen.models.filter((each) => each.refusal), "devices");
  return [
    h("h1", {}, `Fleet ${seen.fleet}`),
    h("div", { class: "cards" },
      card(count(total), "devices"), card(count(online), "online"), card(count(seen.reports), "reports"),
      card(count(refused), "refuse what is wanted", refused ? "bad" : null),
      card(seen.coordinator ? "at work" : "nobody", "decides and rolls out", seen.coordinator ? "good" : "bad")),
    h("h2", {}, "Rollouts"),
    seen.rollouts.length ? table("Rollouts", ROLLOUTS, seen.rollouts.map(rolloutRow)) : h("p", { class: "quiet" }, "None yet."),
    h("h2", {}, "What runs"),
    table("What runs", ["model", "kind of device", "variant", "phase", "refused because", "devices"], seen.models.map((each) => [
      link(`#/models/${each.model}`, each.model), each.profile,
      link(`#/devices?model=${encodeURIComponent(each.model)}&variant=${encodeURIComponent(each.active_label ?? "")}`, each.active_label ?? "none"),
      each.phase, each.refusal, count(each.devices)])),
    h("h2", {}, "Kinds of device"),
    table("Kinds of device", ["profile", "devices", "online"], seen.profiles.map((each) => [
      link(`#/devices?profile=${encodeURIComponent(each.profile ?? "")}`, each.profile ?? "not yet heard"), count(each.devices), count(each.online)])),
  ];
}

export async function devices(get, route) {
  const wanted = new URLSearchParams([...route.query].filter(([, value]) => value !== ""));
  const page = await get(`/devices?${wanted}`);
  const last = page.devices.at(-1)?.device;
  const following = new URLSearchParams(wanted);
  if (last) following.set("after", last);
  const search = (event) => {
    event.preventDefault();
    const query = new URLSearchParams(wanted);
    query.delete("after");
    for (const [key, value] of new FormData(event.target)) value ? query.set(key, value) : query.delete(key);
    location.hash = `#/devices?${query}`;
  };
  return [
    h("h1", {}, "Devices"),
    h("form", { class: "search", onsubmit: search },
      h("div", {}, h("label", { for: "search" }, "Name or kind"), h("input", { id: "search", name: "search", type: "search", value: wanted.get("search") })),
      h("div", {}, h("label", { for: "online" }, "Presence"), h("select", { id: "online", name: "online" },
        [["", "any"], ["true", "online"], ["false", "offline"]].map(([value, text]) =>
          h("option", { value, selected: wanted.get("online") === value }, text)))),
      h("button", { class: "main" }, "Search")),
    h("p", {}, `${count(page.total)} match`, wanted.get("variant") ? ` and run ${wanted.get("variant")}` : ""),
    table("Devices", ["device", "kind", "presence", "models", "heard"], page.devices.map((each) => [
      link(`#/devices/${each.device}`, each.device), each.birth?.profile, presence(each),
      (each.reported?.models ?? []).map(stateText).join("; "), time(each.last_seen)])),
    last && page.devices.length < page.total ? h("p", {}, link(`#/devices?${following}`, "Next page")) : null,
  ];
}

export async function device(get, route) {
  const story = await get(`/devices/${encodeURIComponent(route.name)}`);
  const { birth, reported } = story.device;
  return [
    h("h1", {}, story.device.device),
    facts([
      ["presence", presence(story.device)], ["kind", birth?.profile], ["stand-in", birth?.stand_in ? "yes: this is not the board its profile names" : null],
      ["agent", birth?.agent_version], ["system", birth && `${birth.system}, ${birth.machine}, Python ${birth.python}`],
      ["pinned", (reported?.models ?? []).filter((each) => each.pinned).map((each) => `${each.model}: a technician keeps it on ${each.active_label ?? "what it runs"}`).join("; ")],
      ["runtimes", birth?.runtimes?.map((each) => each.name).join(", ")], ["heard", time(story.device.last_seen)]]),
    h("h2", {}, "Models"),
    table("Models", ["model", "phase", "active", "previous", "refusal"], (reported?.models ?? []).map((each) => [
      link(`#/models/${each.model}`, each.model), `${each.phase}${each.pinned ? ", pinned" : ""}`, each.active_label, each.previous_label,
      each.refusal ? `${each.refusal.code}: ${each.refusal.detail} ${each.refusal.hint}` : null])),
    shadows(story.reports),
    h("h2", {}, "Rollouts that touched it"),
    story.rollouts.length ? h("p", {}, story.rollouts.map((id, index) => [index ? ", " : "", link(`#/rollouts/${id}`, id)])) : h("p", { class: "quiet" }, "None."),
    h("h2", {}, "History"),
    table("History", ["at", "what", "detail"], story.reports.toReversed().map((each) => [time(each.recorded_at), each.kind, reportText(each)])),
  ];
}

export async function rollouts(get) {
  return [h("h1", {}, "Rollouts"), table("Rollouts", ROLLOUTS, (await get("/rollouts")).map(rolloutRow))];
}

export async function decisions(get) {
  const found = await get("/decisions");
  return [h("h1", {}, "Decisions"), table("Decisions", ["decision", "at", "model", "devices", "verdict", "why"], found.map((record) => [
    link(`#/decisions/${record.id}`, record.id), time(record.decided_at), record.decision.model,
    record.decision.stratum.profile, word(record.decision.verdict), record.decision.reasons[0]]))];
}

export async function decision(get, route) {
  const record = await get(`/decisions/${encodeURIComponent(route.name)}`), made = record.decision;
  const labels = new Map(made.candidates.map((each) => [each.manifest, each.label]));
  return [
    h("h1", {}, `Decision ${record.id}`),
    facts([["verdict", made.verdict], ["winner", made.winner_label], ["model", made.model], ["kind of device", made.stratum.profile],
      ["runs on", made.stratum.runs_on?.join(" + ")], ["devices", count(made.stratum.devices?.length ?? 0)], ["objective", made.objective],
      ["rollout", link(`#/rollouts/${record.rollout}`, record.rollout)], ["at", time(record.decided_at)]]),
    h("ul", {}, made.reasons.map((reason) => h("li", {}, reason))),
    h("h2", {}, "Variants"),
    table("Variants", ["variant", "figures", "result"], made.candidates.map((each) => [
      each.label, (each.figures ?? []).map((figure) => `${figure.metric} ${figureText(figure)}`).join(", "),
      each.manifest === made.winner ? h("span", { class: "good" }, "wins") : each.reason])),
    h("h2", {}, `Against what runs: ${made.incumbent_label ?? "nothing"}`),
    table("Effects", ["variant", "metric", "change", "devices"], (made.effects ?? []).map((each) => [
      labels.get(each.candidate), each.metric, `${((each.ratio - 1) * 100).toFixed(1)} %`, count(each.devices)])),
    proofs(made),
    h("details", {}, h("summary", {}, "The record"), h("pre", {}, JSON.stringify(record, null, 2))),
  ];
}

export async function model(get, route) {
  const found = await get(`/models/${encodeURIComponent(route.name)}/fronts`);
  return [
    h("h1", {}, `Model ${route.name}`),
    found.length ? null : h("p", { class: "quiet" }, "Nothing was decided about it yet."),
    found.map((each) => [
      h("h2", {}, each.stratum), front(each.points),
      table(each.stratum, ["variant", "latency", "memory", "size", "error", "devices run it", "result"], each.points.map((point) => [
        point.label, amount(point.latency_ns, "ns"), amount(point.memory_bytes, "B"), amount(point.size_bytes, "B"), amount(point.error),
        count(point.active), point.verdict])),
      h("p", {}, "From decision ", link(`#/decisions/${each.decision}`, each.decision), `, ${time(each.decided_at)}`),
    ]),
  ];
}

export async function audit(get) {
  return [h("h1", {}, "Audit"), table("Audit", ["at", "who", "role", "what", "to", "outcome"], (await get("/audit")).map((each) => [
    time(each.at), each.actor, each.role, each.action, each.target, each.outcome]))];
}

const card = (number, text, kind) => h("div", { class: "card" }, h("b", { class: kind }, number), text);
const presence = (each) => h("span", { class: each.online ? "good" : "quiet" }, each.online ? "online" : "offline");
const stateText = (state) => `${state.model}: ${state.active_label ?? "none"} (${state.phase}${state.pinned ? ", pinned" : ""})`;
const UNITS = { latency: "ns", p95: "ns", memory: "B", size: "B" };
const figureText = (figure) => amount(figure.value, UNITS[figure.metric]);

function shadows(reports) {
  const seen = reports.filter((each) => each.shadow).toReversed();
  return seen.length ? [
    h("h2", {}, "Shadows"),
    table("Shadows", ["at", "model", "candidate", "what came of it"], seen.map((each) => [
      time(each.recorded_at), each.shadow.model, short(each.shadow.manifest), reportText(each)])),
  ] : null;
}

const short = (digest) => (digest ? h("span", { title: digest }, digest.replace("sha256:", "").slice(0, 12)) : null);

function shadowText({ model, summary, detail }) {
  const rows = sum(summary.outputs, "rows"), bad = summary.misshapen + summary.not_finite + summary.failed;
  const agree = rows ? `, ${((100 * sum(summary.outputs, "agreeing")) / rows).toFixed(2)} % agree` : "";
  const ratio = summary.ratio == null ? "" : `, latency x ${summary.ratio.toFixed(2)}`;
  return `${model}: ${count(summary.compared)} answers compared${agree}${ratio}, ${count(bad)} bad, ${count(summary.dropped)} dropped${detail ? ` (${detail})` : ""}`;
}

function reportText(report) {
  if (report.install) return JSON.stringify(report.install.outcome ?? report.install);
  if (report.incident) return `${report.incident.code}: ${report.incident.detail}`;
  if (report.shadow) return report.shadow.refusal ? `${report.shadow.refusal.code}: ${report.shadow.refusal.detail}` : shadowText(report.shadow);
  const measured = report.measurement;
  if (measured?.refusal) return `${measured.refusal.code}: ${measured.refusal.detail}`;
  return measured?.measurement ? `${measured.model}: median ${amount(measured.measurement.latency.p50_ns, "ns")}` : "";
}
