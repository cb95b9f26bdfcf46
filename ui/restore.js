// Plans, restores and undoes: what will be lost, the typed word, the way through the restart.
import { Refused, begin, call, leave, ours, pause } from "./api.js";
import { ask } from "./ask.js";
import { at, make, many, size, span } from "./words.js";
import { say } from "./work.js";

// The server's process is replaced and the program behind it started again.
const PATIENCE_MS = 15 * 60_000;
const PHASES = [
  "Unpack and check; the application goes on",
  "Restart and swap the data",
  "Prove that the data opens",
];

const p = (...words) => make("p", {}, ...words);
const list = (items) => make("ul", {}, ...items.map((item) => make("li", {}, item)));

export async function restore(backup) {
  say(`Planning the restore of ${backup.key}…`);
  let plan;
  try {
    plan = await call("POST", ours(backup.key, "plan"));
  } catch (error) {
    say(error.message);
    return;
  }
  say("");
  const refused = plan.refused !== null;
  const yes = refused ? undefined : "Restore";
  const title = `Restore ${backup.key}`;
  if (await ask({ title, body: told(plan), yes, typed: backup.key })) {
    await through(title, () => begin(ours(backup.key, "restore")));
  }
}

export async function undo(kept) {
  const title = "Undo the restore";
  const body = [p(`The data from before the restore of ${kept.key} comes back, as it was `
    + `${span(kept.ageSeconds)} ago. What was written since then is put aside, and can be `
    + "brought back in the same way.")];
  if (await ask({ title, body, yes: "Undo", typed: "undo" })) {
    await through(title, () => begin("/api/vault/restore/undo"));
  }
}

/** A plan in words. */
function told(plan) {
  const parts = [];
  if (plan.refused !== null) {
    parts.push(make("p", { className: "error", role: "alert" },
      `This backup cannot be restored: ${plan.refused}`));
  }
  const { contents, migrations } = plan;
  parts.push(p(`The archive holds ${many(contents.files, "file")}, ${size(contents.bytes)} `
    + "unpacked. They replace the data of now. The application restarts; requests wait."));
  parts.push(lost(plan.loss));
  if (migrations?.onlyInArchive.length) {
    parts.push(p("Migrations that the present data does not have: "
      + migrations.onlyInArchive.join(", ")));
  }
  if (migrations?.onlyPresent.length) {
    parts.push(p("Migrations that run again afterwards: " + migrations.onlyPresent.join(", ")));
  }
  for (const part of plan.parts) {
    const where = part.path === "" ? "the data folder" : part.path;
    parts.push(p(`Room in ${where}: ${size(part.neededBytes)} needed, ${size(part.freeBytes)} `
      + `free; moved by ${part.movedBy}.`));
  }
  if (plan.warnings.length) parts.push(list(plan.warnings));
  return parts;
}

function lost(loss) {
  const box = make("div", { className: "loss" }, make("strong", {}, "What will be lost"));
  if (!loss) {
    box.append(p("It could not be counted."));
    return box;
  }
  const lines = loss.collections.filter((one) => one.lost > 0 || one.changed > 0).map((one) =>
    `${one.name}: ${many(one.lost, "row")} that the backup does not have, `
    + `${many(one.changed, "row")} changed since`);
  if (loss.files > 0) {
    lines.push(`${many(loss.files, "file")} (${size(loss.bytes)}) that the backup does not have`);
  }
  if (loss.filesChanged > 0) lines.push(`${many(loss.filesChanged, "file")} changed since`);
  box.append(lines.length ? list(lines) : p("Nothing: the backup has every row and file of now."));
  if (loss.examples.length) box.append(p(`For example ${loss.examples.slice(0, 5).join(", ")}`));
  if (!loss.complete) box.append(p("Not everything was counted; it may be more."));
  if (lines.length) box.append(p("An undo can bring it back."));
  return box;
}

/** Shows the way of a restore that `start` begins, to its end. */
async function through(title, start) {
  const before = await call("GET", "/api/vault/restore").catch(() => null);
  const dialog = at("phases");
  at("phases-title").textContent = title;
  at("phases-close").hidden = true;
  at("phases-close").onclick = () => dialog.close();
  // Nothing is stopped by closing it, but who watches wants to know how it ends.
  dialog.oncancel = (event) => { if (at("phases-close").hidden) event.preventDefault(); };
  phase(0);
  at("phase-said").textContent = "";
  dialog.showModal();
  let end;
  try {
    const job = await start();
    end = await watched(job, before?.last?.id);
  } catch (error) {
    end = { good: false, text: error.message };
  }
  if (end.good) phase(PHASES.length);
  at("phase-said").textContent = end.text;
  at("phases-close").hidden = false;
  at("phases-close").focus();
  if (dialog.open) await new Promise((resolve) => { dialog.onclose = resolve; });
  if (end.out) leave(end.text);
}

function phase(now) {
  at("phase-list").replaceChildren(...PHASES.map((words, index) => {
    const state = index < now ? "done" : index === now ? "now" : "later";
    const item = make("li", { "data-state": state }, words);
    if (state === "now") item.setAttribute("aria-current", "step");
    return item;
  }));
}

/** Asks until the restore is settled, whoever answers by then. */
async function watched(job, before) {
  const until = Date.now() + PATIENCE_MS;
  while (Date.now() < until) {
    try {
      const { last } = await call("GET", "/api/vault/restore");
      if (last && last.id !== before) {
        if (last.settled) return settled(last);
        phase(last.phase === "swapped" ? 2 : 1);
      }
      const record = await call("GET", `/api/vault/jobs/${job}`);
      if (record.state !== "running" && record.state !== "done") {
        const why = [record.error, record.hint].filter(Boolean).join(" ");
        return { good: false, text: `Nothing was changed: the restore ${record.state}. ${why}` };
      }
    } catch (error) {
      if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
        // The superusers are those of the restored data now.
        const text = "The data was swapped and has other logins. Log in with those of the "
          + "backup to see how it went.";
        return { good: true, out: true, text };
      }
      phase(1);
    }
    await pause(300);
  }
  return { good: false, text: "No answer for a long time. The server's log says how it is." };
}

function settled(last) {
  if (last.phase === "proven") {
    return { good: true, text: "Done. The data opens and is served; an undo is possible." };
  }
  return {
    good: false,
    text: `It was rolled back, and the data from before is served. ${last.reason ?? ""}`,
  };
}
