// The page: who is in, what is shown, and which part does what.
import * as api from "./api.js";
import { ask } from "./ask.js";
import * as list from "./list.js";
import * as restoring from "./restore.js";
import * as rules from "./rules.js";
import { judge, show as showVerdict } from "./safe.js";
import * as schedules from "./schedules.js";
import * as overTime from "./time.js";
import * as tokens from "./tokens.js";
import * as uploads from "./upload.js";
import { at, make, many, size, span } from "./words.js";
import * as work from "./work.js";

// Several changes that come together are one look at the server.
const GATHER_MS = 150;
// Work that has no event of its own.
const LOOK_AGAIN_MS = 2_000;
const jobs = new Map();
const told = new Set();
let backups = [];
let pending = null;

function enter() {
  at("login").hidden = true;
  at("vault").hidden = false;
  at("logout").hidden = false;
  at("who").textContent = api.who();
  refresh();
  api.follow(changed, connected);
}

function leave(why) {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close("no");
  jobs.clear();
  at("work").replaceChildren();
  at("vault").hidden = true;
  at("logout").hidden = true;
  at("who").textContent = "";
  at("notice").hidden = true;
  at("login").hidden = false;
  at("login-error").textContent = why;
  at("password").value = "";
  at("email").focus();
}

function connected(is, why = "") {
  at("notice").hidden = is;
  if (is) {
    refresh();
    return;
  }
  at("notice").textContent = why || "The server does not answer just now; trying again.";
}

function changed(job) {
  keep(job);
  if (job.state === "running") return;
  // Whoever uploads says by itself how it ended.
  // What runs by the clock is in the history, and takes nobody's answer away.
  if (!told.has(job.id) && job.kind !== "upload" && job.method === "api") work.say(work.outcome(job));
  told.add(job.id);
  refresh();
}

/** What has ended stays so: an answer may be older than an event that came before it. */
function keep(job) {
  const known = jobs.get(job.id);
  if (known && known.state !== "running" && job.state === "running") return;
  jobs.set(job.id, job);
  work.running(job);
}

function refresh() {
  pending ??= setTimeout(async () => {
    pending = null;
    let found;
    try {
      found = await load();
    } catch (error) {
      // While the server restarts the notice says so; a refusal is said in its words.
      if (error instanceof api.Refused && api.isIn()) work.say(error.message);
      return;
    }
    if (api.isIn()) show(...found);
  }, GATHER_MS);
}

function load() {
  const paths = ["/api/vault/backups", "/api/vault/jobs", "/api/settings", "/api/vault/restore",
    "/api/vault/status", "/api/vault/schedules"];
  return Promise.all(paths.map((path) => api.call("GET", path)));
}

function show(found, known, settings, restore, status, planned) {
  backups = found;
  known.forEach(keep);
  const ordered = [...jobs.values()].sort((a, b) => b.id - a.id);
  list.show(backups);
  work.history(ordered.filter((job) => job.state !== "running"));
  showVerdict(judge(backups, ordered, status));
  overTime.show(backups, jobs);
  if (schedules.show(planned, settings)) setTimeout(refresh, LOOK_AGAIN_MS);
  rules.changed();
  const { undo } = restore;
  at("undo").hidden = !undo;
  if (undo) {
    at("undo-text").textContent = `The data from before the last restore (${undo.key}) is kept, `
      + `as it was ${span(undo.ageSeconds)} ago, until ${undo.until.slice(0, 16)} UTC.`;
    at("undo-button").onclick = () => restoring.undo(undo).then(refresh);
  }
}

async function create(event) {
  event.preventDefault();
  const button = event.submitter ?? at("create-form").querySelector("button");
  const name = at("name").value.trim();
  button.disabled = true;
  work.say("The backup begins…");
  try {
    await api.begin("/api/backups", name ? { name } : {});
    at("name").value = "";
  } catch (error) {
    work.say(error.message);
  }
  button.disabled = false;
  button.focus();
}

async function download(backup) {
  try {
    const { token } = await api.call("POST", "/api/files/token");
    uploads.download(backup.key, api.backupPath(backup.key), token);
    work.say(`The browser downloads ${backup.key}.`);
  } catch (error) {
    work.say(error.message);
  }
}

async function check(backup) {
  try {
    await api.begin(api.ours(backup.key, "verify"));
    work.say(`${backup.key} is read back and checked.`);
  } catch (error) {
    work.say(error.message);
  }
}

async function pin(backup) {
  try {
    const method = backup.pinned ? "DELETE" : "POST";
    await api.call(method, api.ours(backup.key, "pin"));
    work.say(backup.pinned ? `${backup.key} is kept as the rules say.`
      : `${backup.key} is kept, whatever the rules say.`);
  } catch (error) {
    work.say(error.message);
  }
  refresh();
}

async function remove(backup) {
  const left = backups.length - 1;
  const body = [make("p", {}, `${backup.key} (${size(backup.size)}) is gone for good then. `
    + (left ? `${many(left, "backup")} will be left.` : "It is the last one!"))];
  if (!(await ask({ title: "Delete a backup", body, yes: "Delete" }))) return;
  try {
    await api.call("DELETE", api.backupPath(backup.key));
    work.say(`${backup.key} was deleted.`);
  } catch (error) {
    work.say(error.message);
  }
  at("rows").focus();
  refresh();
}

at("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("login-error").textContent = "";
  try {
    await api.login(at("email").value, at("password").value);
    enter();
    at("verdict").tabIndex = -1;
    at("verdict").focus();
  } catch (error) {
    at("login-error").textContent = error instanceof api.Refused ? error.message
      : "The server cannot be reached.";
    at("password").focus();
  }
});
at("logout").addEventListener("click", () => api.leave());
at("create-form").addEventListener("submit", create);
api.onOut(leave);
uploads.start(refresh);
schedules.start(refresh);
rules.start(refresh);
tokens.start();
overTime.start(list.choose);
list.start({
  check,
  download,
  pin,
  remove,
  restore: (backup) => restoring.restore(backup).then(refresh),
});
if (api.isIn()) enter();
else leave("");
