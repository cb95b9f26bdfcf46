// Are you safe? In words, from the newest backup and how the last jobs ended.
import { age, ago, at, make, many, size, span } from "./words.js";

const DAY_S = 86_400;
// A daily backup may take its time.
const FRESH_S = DAY_S + 2 * 3_600;
const STALE_S = 3 * DAY_S;

const TITLES = {
  healthy: "You are safe.",
  delayed: "Your newest backup is getting old.",
  stale: "Your backups are too old.",
  failing: "Backups are failing.",
  none: "You have no backup.",
  damaged: "Your newest backup is damaged.",
  unknown: "Your newest backup is not whole.",
};

const ORDER = ["healthy", "delayed", "stale", "failing"];

/** The verdict and its reasons; `backups` as our own list has them, `status` as the server. */
export function judge(backups, jobs, status) {
  const made = jobs.filter((job) => job.kind === "create" && job.state !== "running");
  const last = made.find((job) => job.state !== "cancelled");
  const reasons = [];
  // What somebody brought here may be of any age and of any application.
  const own = backups.filter((backup) => backup.origin !== "uploaded");
  const newest = own.reduce((a, b) => (a && a.modified > b.modified ? a : b), null);
  if (newest) {
    reasons.push(`The newest backup is ${newest.key}, ${size(newest.size)}, made `
      + `${ago(newest.modified)}. What was written since then is in no backup.`);
    reasons.push(proven(newest.proof));
  }
  if (backups.length) {
    const brought = backups.length - own.length;
    reasons.push(many(backups.length, "backup is", "backups are") + " here, "
      + `${size(backups.reduce((sum, backup) => sum + backup.size, 0))} in all`
      + (brought ? `; ${many(brought, "archive was", "archives were")} uploaded and say nothing `
        + "about the data of now." : "."));
  }
  const next = status.nextRun;
  reasons.push(next ? `The next backup is made by the clock at ${next.slice(0, 16)} UTC.`
    : "No schedule is set: backups are made only when somebody asks.");
  if (status.freeBytes !== null && status.freeBytes !== undefined) {
    const full = status.fullInDays;
    reasons.push(`${size(status.freeBytes)} are free where backups lie`
      + (full === null || full === undefined ? "." : `; if it goes on like this, the disk is full `
        + `in ${many(full, "day")}.`));
  }
  const failed = last && (last.state === "failed" || last.state === "interrupted");
  if (failed) {
    const why = last.error ?? "The server ended in the middle of it.";
    reasons.unshift(`The last backup failed ${ago(last.ended)}: ${why} ${last.hint ?? ""}`);
    return { state: "failing", title: TITLES.failing, reasons };
  }
  let state = "none";
  if (newest?.proof && !newest.proof.ok) {
    state = "damaged";
  } else if (newest && !newest.complete) {
    reasons.unshift(`${many(newest.missing, "file")} could not be put into it; the history says `
      + "which.");
    state = "unknown";
  } else if (newest) {
    const seconds = age(newest.modified);
    state = seconds <= FRESH_S ? "healthy" : seconds <= STALE_S ? "delayed" : "stale";
    if (state !== "healthy") reasons.unshift(`It is ${span(seconds)} old.`);
  }
  // The server has the rules: where it is more worried, it is right.
  if (newest && ORDER.indexOf(status.health) > Math.max(0, ORDER.indexOf(state))
    && ORDER.includes(state)) {
    state = status.health;
    reasons.unshift(...status.reasons);
  }
  const title = state === "healthy" && !next ? "You are safe for now." : TITLES[state];
  return { state: newest ? state : "stale", title, reasons };
}

function proven(proof) {
  if (!proof) return "Whether it can be read back was not tried yet.";
  if (!proof.ok) return `It was tried ${ago(proof.when)} and is damaged: ${proof.said}`;
  const how = proof.kind === "drill" ? "restored into a scratch folder" : "read back";
  return `It was ${how} ${ago(proof.when)} and is sound.`;
}

export function show(verdict) {
  at("safe").dataset.state = verdict.state;
  if (at("verdict").textContent !== verdict.title) at("verdict").textContent = verdict.title;
  at("reasons").replaceChildren(...verdict.reasons.map((text) => make("li", {}, text)));
}
