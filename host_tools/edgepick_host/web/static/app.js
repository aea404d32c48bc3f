// Who is signed in, which view is shown, and what an operator does.

import { h } from "./dom.js";
import { members, rollout } from "./rollout.js";
import * as views from "./views.js";

const LOOK_MILLISECONDS = 2000;
const ROUTES = [
  [/^\/$/, views.fleet, true], [/^\/devices$/, views.devices], [/^\/devices\/([^/]+)$/, views.device, true],
  [/^\/rollouts$/, views.rollouts, true], [/^\/rollouts\/([^/]+)$/, rollout, true], [/^\/rollouts\/([^/]+)\/devices$/, members], [/^\/decisions$/, views.decisions],
  [/^\/decisions\/([^/]+)$/, views.decision], [/^\/models\/([^/]+)$/, views.model], [/^\/audit$/, views.audit],
];
const main = document.getElementById("main"), notice = document.getElementById("notice");
let token = sessionStorage.getItem("token"), me = null, shown = 0, timer = 0;

async function call(path, options = {}) {
  const response = await fetch(`/api/v1${path}`, { ...options, headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" } });
  if (response.status === 401) { leave(); say("The token is not known."); throw new Error("The token is not known."); }
  const body = await response.json();
  if (!response.ok) throw new Error([body.detail, body.hint].filter((text) => typeof text === "string").join(" "));
  return body;
}

function route() {
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  for (const [pattern, view, live] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return { view, live, path, name: match[1] && decodeURIComponent(match[1]), query: new URLSearchParams(query) };
  }
  return { view: async () => [h("h1", {}, "No such view")], path, query: new URLSearchParams() };
}

async function show(quietly = false) {
  clearTimeout(timer);
  if (!token) return enter();
  const number = ++shown, here = route();
  try {
    me ??= await call("/me");
    const made = await here.view((path) => call(path), here, act);
    if (number !== shown) return;
    frame(here);
    const kept = quietly ? [scrollX, scrollY] : null;
    if (!quietly || !main.contains(document.activeElement) || document.activeElement === main) main.replaceChildren(...flat(made));
    if (kept) scrollTo(...kept); else main.focus({ preventScroll: true });
  } catch (error) {
    if (number !== shown || !token) return;
    if (quietly) say(error.message); else main.replaceChildren(h("h1", {}, "This could not be shown"), h("p", { role: "alert" }, error.message));
  }
  if (here.live && token) timer = setTimeout(() => (document.hidden ? show.later() : show(true)), LOOK_MILLISECONDS);
}
show.later = () => document.addEventListener("visibilitychange", () => show(true), { once: true });

const flat = (made) => made.flat(9).filter((child) => child !== null && child !== undefined && child !== false);

function frame(here) {
  document.getElementById("nav").hidden = document.getElementById("leave").hidden = !me;
  document.getElementById("fleet").textContent = me?.fleet ?? "";
  document.getElementById("who").textContent = me ? `${me.name} (${me.role})` : "";
  for (const link of document.querySelectorAll("nav a")) {
    const path = link.getAttribute("href").slice(1);
    (path === "/" ? here.path === "/" : here.path.startsWith(path)) ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  document.title = `${main.querySelector("h1")?.textContent ?? "edgepick"} · edgepick`;
}

function enter() {
  me = null;
  frame({ path: "" });
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    token = input.value.trim();
    sessionStorage.setItem("token", token);
    show();
  };
  main.replaceChildren(h("h1", {}, "Sign in"),
    h("form", { class: "search", onsubmit: submit }, h("div", {}, h("label", { for: "token" }, "Token, from: edgepick tokens add NAME"), input), h("button", { class: "main" }, "Sign in")));
  input.focus();
}

function leave() {
  token = me = null;
  sessionStorage.removeItem("token");
  clearTimeout(timer);
  enter();
}

async function act(state, action) {
  if (me?.role !== "operator") return say("This needs the role operator.");
  if (action === "abort" && !confirm(`Send every device of rollout ${state.id} back to what it ran before?`)) return;
  try {
    await call(`/rollouts/${state.id}/${action}`, { method: "POST" });
    say(`Asked rollout ${state.id} to ${action}.`);
  } catch (error) {
    say(error.message);
  }
  main.focus({ preventScroll: true });
  show(true);
}

function say(text) {
  notice.textContent = text;
  setTimeout(() => { if (notice.textContent === text) notice.textContent = ""; }, 6000);
}

document.getElementById("leave").addEventListener("click", leave);
addEventListener("hashchange", () => show());
show();
