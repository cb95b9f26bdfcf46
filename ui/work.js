// Work that goes on, live, and the history of what ended.
import { call } from "./api.js";
import { ago, at, make, size, span, time } from "./words.js";

const HISTORY_MAX = 50;

const NAMES = {
  create: "Backup", upload: "Upload", restore: "Restore", undo: "Undo", verify: "Check",
  prune: "Clean-up", drill: "Drill",
};
const STEPS = {
  waiting: "waiting", pinning: "looking at the data", archiving: "packing",
  transferring: "moving the archive", checking: "checking", extracting: "unpacking",
  swapping: "swapping the data", finished: "ending",
};
const BY = { api: "asked for through the API", manual: "made by hand", scheduled: "by the clock" };
const lines = new Map();

/** Says it where screens are read aloud, too. */
export const say = (text) => { at("said").textContent = text; };

/** A line with a bar; `stop` is called by its button. */
export function line(id, title, stop) {
  const known = lines.get(id);
  if (known) return known;
  const bar = make("progress", { max: 1, ariaLabel: title });
  const text = make("span");
  const button = make("button", { type: "button", ariaLabel: `Cancel: ${title}` }, "Cancel");
  button.addEventListener("click", () => {
    button.disabled = true;
    stop();
  });
  const element = make("li", {}, button, make("strong", {}, title), " ", text, bar);
  at("work").append(element);
  const made = {
    show(done, all, words) {
      if (all > 0) bar.value = Math.min(1, done / all);
      else bar.removeAttribute("value");
      text.textContent = words;
    },
    end() {
      const held = element.contains(document.activeElement);
      element.remove();
      lines.delete(id);
      // The focus goes to where the next backup is made, not to nowhere.
      if (held) document.querySelector("#create-form button").focus();
    },
  };
  lines.set(id, made);
  return made;
}

/** How far something is: what was moved of what, how fast, how long it will take. */
export function pace(done, all, rate, left) {
  const words = [all > 0 ? `${size(done)} of ${size(all)}` : size(done)];
  if (rate > 0) words.push(`${size(rate)}/s`);
  if (left !== null && left !== undefined) words.push(`${span(left)} left`);
  return words.join(", ");
}

/** Shows a job that runs, and takes its line away when it has ended. */
export function running(job) {
  const id = `job ${job.id}`;
  if (job.state !== "running") {
    lines.get(id)?.end();
    return;
  }
  const title = `${NAMES[job.kind] ?? job.kind} ${job.key}`;
  const stop = () => call("DELETE", `/api/vault/jobs/${job.id}`).catch((error) => say(error.message));
  const words = `${STEPS[job.step] ?? job.step}: `
    + pace(job.bytes, job.bytesEstimate, job.rate, job.etaSeconds);
  line(id, title, stop).show(job.bytes, job.bytesEstimate, words);
}

/** What a job that ended says of itself. */
export function outcome(job) {
  const name = `${NAMES[job.kind] ?? job.kind} ${job.key}`;
  const why = [job.error, job.hint].filter(Boolean).join(" ");
  return `${name}: ${job.state}.${why ? ` ${why}` : ""}`;
}

export function history(jobs) {
  at("jobs").replaceChildren(...jobs.slice(0, HISTORY_MAX).map(entry));
  if (jobs.length === 0) at("jobs").append(make("li", {}, "Nothing happened yet."));
}

function entry(job) {
  const took = job.ended ? (time(job.ended) - time(job.started)) / 1000 : 0;
  const element = make("li", {},
    make("strong", { className: `state-${job.state}` }, job.state), " ",
    `${NAMES[job.kind] ?? job.kind} ${job.key}`);
  const more = [ago(job.started), BY[job.method] ?? job.method];
  if (job.bytes > 0) more.push(size(job.bytes));
  if (took >= 1) more.push(`took ${span(took)}`);
  element.append(make("div", { className: "hint" }, more.join(" · ")));
  if (job.error) {
    element.append(make("div", { className: "error" }, `${job.error} ${job.hint ?? ""}`));
  }
  for (const note of job.notes.slice(0, 5)) {
    element.append(make("div", { className: "hint" }, note));
  }
  return element;
}
