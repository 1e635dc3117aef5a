// The list of consoles: every VM of this agent, and a button that asks the API for a link to its screen.

import { language, say, translate } from "./words.js";

const EVERY_MS = 3000;
const TOKEN = "reconciler-token"; // kept for this tab, and no longer
const TONES = { running: "good", paused: "busy", starting: "busy", stopping: "busy", failed: "bad", unknown: "bad" };
const WITH_CONSOLE = new Set(["running", "paused", "stopping"]);
const $ = (id) => document.getElementById(id);
const webPort = Number(new URLSearchParams(location.search).get("webPort")) || undefined;

async function api(method, path, body) {
  const headers = { "X-Language": language };
  if (sessionStorage.getItem(TOKEN)) headers.Authorization = `Bearer ${sessionStorage.getItem(TOKEN)}`;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  return { status: answer.status, ...(await answer.json()) };
}

async function refresh() {
  let answer;
  try {
    answer = await api("GET", "/api/vms");
  } catch {
    $("message").textContent = say("noAgent");
    return;
  }
  if (answer.status === 401) {
    askForToken();
  } else if (!answer.success) {
    $("message").textContent = answer.error;
  } else {
    if ($("message").textContent === say("noAgent")) $("message").textContent = "";
    $("ask").hidden = true;
    show(answer.vms);
  }
}

function askForToken() {
  if (sessionStorage.getItem(TOKEN)) $("message").textContent = say("wrongToken");
  sessionStorage.removeItem(TOKEN);
  $("table").hidden = true;
  $("empty").hidden = true;
  $("card").hidden = true;
  if ($("ask").hidden) {
    $("ask").hidden = false;
    $("token").focus();
  }
}

function show(vms) {
  $("card").hidden = false;
  $("table").hidden = vms.length === 0;
  $("empty").hidden = vms.length > 0;
  $("empty").textContent = say("none");
  const present = new Map([...$("rows").children].map((row) => [row.dataset.name, row]));
  for (const [index, vm] of vms.entries()) {
    const row = present.get(vm.name) ?? newRow(vm.name);
    present.delete(vm.name);
    row.querySelector(".dot").dataset.tone = TONES[vm.status] ?? "";
    row.querySelector(".word").textContent = say(vm.status);
    row.querySelector(".port").textContent = vm.vncPort ?? "";
    row.querySelector("button").disabled = !WITH_CONSOLE.has(vm.status);
    const there = $("rows").children[index];
    if (there !== row) $("rows").insertBefore(row, there ?? null); // one that is moved would lose the focus
  }
  for (const row of present.values()) row.remove();
}

function newRow(name) {
  const row = document.createElement("tr");
  row.dataset.name = name;
  const [title, state, port, action] = Array.from({ length: 4 }, () => row.insertCell());
  title.className = "name";
  title.textContent = name;
  const both = element("span", "state", state);
  element("span", "dot", both).setAttribute("aria-hidden", "true");
  element("span", "word", both);
  port.className = "port";
  const button = element("button", "", action);
  button.type = "button";
  button.textContent = say("open");
  button.setAttribute("aria-label", say("openOf", name));
  button.addEventListener("click", () => open(name));
  return row;
}

function element(tag, className, parent) {
  const made = document.createElement(tag);
  made.className = className;
  parent.append(made);
  return made;
}

// The window first: browsers allow it at the click, and not after an answer came.
async function open(name) {
  $("message").textContent = "";
  const tab = window.open("about:blank");
  if (!tab) {
    $("message").textContent = say("popup");
    return;
  }
  tab.opener = null;
  try {
    const answer = await api("POST", `/api/novnc/${encodeURIComponent(name)}`, { webPort });
    if (answer.success) {
      tab.location.replace(answer.url);
      return;
    }
    if (answer.status === 401) askForToken();
    $("message").textContent = [answer.error, ...(answer.details ?? []).map((each) => each.message)].join(" — ");
  } catch {
    $("message").textContent = say("noAgent");
  }
  tab.close();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  $("message").textContent = "";
  refresh();
});

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, EVERY_MS);
}

translate();
document.title = say("consoles");
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
keepFresh();
