// The console of one VM: noVNC's core between our tools above and the connection below.
//
// The address says what noVNC's own page takes as well: host, port, path (with ?token=… in it), encrypt, autoconnect,
// reconnect, resize (scale or off), view_only, shared, password. A connection that ends is made again, more slowly
// each time, until the service says that the token opens nothing any more.

import RFB from "./novnc/core/rfb.js";
import { type } from "./keys.js";
import { say, translate } from "./words.js";

const DELAYS_S = [1, 2, 4, 8, 15];
const $ = (id) => document.getElementById(id);

const given = new URLSearchParams(location.hash.slice(1));
for (const [key, value] of new URLSearchParams(location.search)) if (!given.has(key)) given.set(key, value);
const flag = (name, otherwise) => (given.has(name) ? !["0", "false", "no", ""].includes(given.get(name).toLowerCase()) : otherwise);

const secure = flag("encrypt", location.protocol === "https:");
const host = given.get("host") || location.hostname;
const port = given.get("port") || location.port || (secure ? "443" : "80");
const path = (given.get("path") || "").replace(/^\/+/, "");
const place = `://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${port}/${path}`;
const socketUrl = (secure ? "wss" : "ws") + place;
const questionUrl = (secure ? "https" : "http") + place;
const mayReconnect = flag("reconnect", true);

let rfb = null; // the connection, or the attempt at one
let isOpen = false;
let failures = 0;
let timer = null;
let fits = given.get("resize") !== "off";

// ---- what is shown ---------------------------------------------------------------------------------------------

function show(tone, status, notice, button = "reconnect") {
  $("dot").dataset.tone = tone;
  $("status").textContent = status;
  $("notice").hidden = !notice;
  $("noticeText").textContent = notice || "";
  $("noticeButton").hidden = !button;
  $("noticeButton").textContent = button ? say(button) : "";
  for (const id of ["cad", "type", "send"]) $(id).disabled = !isOpen || flag("view_only", false);
}

function rename(text) {
  const name = /^QEMU \((.+)\)$/.exec(text)?.[1] ?? text;
  $("name").textContent = name;
  document.title = `${name} — ${say("title")}`;
}

function scale() {
  $("fit").setAttribute("aria-pressed", String(fits));
  if (rfb) rfb.scaleViewport = fits;
}

// ---- the connection --------------------------------------------------------------------------------------------

function connect() {
  clearTimeout(timer);
  rfb?.disconnect();
  isOpen = false;
  if (!path) return show("bad", say("idle"), say("noLink"), null);
  show("busy", say("connecting"));
  const credentials = given.has("password") ? { password: given.get("password") } : {};
  const attempt = new RFB($("screen"), socketUrl, { shared: flag("shared", true), credentials });
  rfb = attempt;
  rfb.background = "#000";
  rfb.viewOnly = flag("view_only", false);
  scale();
  const on = (event, handler) => attempt.addEventListener(event, (e) => attempt === rfb && handler(e));
  on("connect", opened);
  on("disconnect", closed);
  on("desktopname", (e) => rename(e.detail.name));
  on("clipboard", (e) => { $("text").value = e.detail.text; });
  on("credentialsrequired", askForPassword);
  on("securityfailure", (e) => {
    failures = DELAYS_S.length; // no hurry: it will say the same again
    $("hint").textContent = say("refused") + (e.detail.reason || e.detail.status);
  });
  return undefined;
}

function opened() {
  isOpen = true;
  failures = 0;
  show("good", say("connected"));
  if (!document.activeElement || document.activeElement === document.body || $("stage").contains(document.activeElement)) rfb.focus();
}

async function closed() {
  const ended = rfb;
  isOpen = false;
  show("busy", say("connecting"));
  const answer = await ask();
  if (ended !== rfb) return; // somebody pressed the button meanwhile
  rfb = null;
  if (answer === 403) return show("bad", say("ended"), say("dead"), null);
  if (!mayReconnect) return show("bad", say("idle"), say("idle"));
  const why = answer === 503 ? "off" : answer === null ? "unreachable" : "again";
  return wait(why, DELAYS_S[Math.min(failures++, DELAYS_S.length - 1)]);
}

function wait(why, seconds) {
  if (seconds <= 0) return connect();
  const text = say(why, seconds);
  show("busy", text, text);
  timer = setTimeout(() => wait(why, seconds - 1), 1000);
  return undefined;
}

// What became of the token: 204 it is good, 503 its VM is off just now, 403 it opens nothing; null: nobody answers.
async function ask() {
  try {
    return (await fetch(questionUrl, { cache: "no-store" })).status;
  } catch {
    return null;
  }
}

function askForPassword() {
  const asking = rfb;
  $("secret").value = "";
  $("ask").showModal();
  $("ask").addEventListener("close", () => {
    if (asking === rfb) rfb.sendCredentials({ password: $("secret").value });
    $("secret").value = "";
  }, { once: true });
}

// ---- the tools -------------------------------------------------------------------------------------------------

function now() {
  failures = 0;
  connect();
}

$("cad").addEventListener("click", () => { rfb.sendCtrlAltDel(); rfb.focus(); });
$("fit").addEventListener("click", () => { fits = !fits; scale(); rfb?.focus(); });
$("reconnect").addEventListener("click", now);
$("noticeButton").addEventListener("click", now);

$("full").addEventListener("click", async () => {
  await $("stage").requestFullscreen();
  await navigator.keyboard?.lock?.().catch(() => {}); // Escape, Alt-Tab go to the guest; holding Escape leaves
  rfb?.focus();
});

$("clipboard").addEventListener("click", () => {
  const open = $("drawer").hidden;
  $("drawer").hidden = !open;
  $("clipboard").setAttribute("aria-expanded", String(open));
  if (open) {
    $("hint").textContent = say("leave");
    $("text").focus();
  } else {
    rfb?.focus();
  }
});

$("send").addEventListener("click", () => {
  rfb.clipboardPasteFrom($("text").value);
  $("hint").textContent = `${say("sent")} (${say("sendHint")})`;
});

$("type").addEventListener("click", async () => {
  const into = rfb;
  $("hint").textContent = say("typing");
  $("type").disabled = true;
  const missing = await type(into, $("text").value, () => isOpen && into === rfb);
  $("type").disabled = !isOpen;
  $("hint").textContent = missing.length ? say("cannotType") + missing.slice(0, 20).join(" ") : say("sent");
  if (isOpen) rfb.focus();
});

// The guest gets every key while its screen has the focus; this chord leads out, before noVNC sees it.
addEventListener("keydown", (event) => {
  if (event.key !== "F6" || !event.ctrlKey || !event.shiftKey || !$("stage").contains(document.activeElement)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  rfb?.blur();
  $("clipboard").focus();
}, true);

translate();
$("screen").title = "";
if (flag("autoconnect", true)) connect();
else show("", say("idle"), say("idle"), "connect");
