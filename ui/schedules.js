// What runs by the clock: PocketBase's own schedule, and ours from the configuration.
import * as api from "./api.js";
import { ago, at, make, many } from "./words.js";
import { say } from "./work.js";

const WHAT = {
  backup: "backup", verify: "proof of old backups", drill: "restore drill", prune: "clean-up",
};

export function start(refresh) {
  at("cron-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const backups = { cron: at("cron").value.trim(), cronMaxKeep: Number(at("keep").value) };
    try {
      await api.call("PATCH", "/api/settings", { backups });
      say(backups.cron ? `Backups are made at ${backups.cron} (UTC) from now on.`
        : "PocketBase's own schedule is off.");
    } catch (error) {
      say(error.message);
    }
    refresh();
  });
}

/** Shows them; whether one is under way, whose end nobody tells. */
export function show(schedules, settings) {
  // Nobody's typing is taken away.
  if (!at("cron-form").contains(document.activeElement)) {
    at("cron").value = settings.backups.cron;
    at("keep").value = settings.backups.cronMaxKeep;
  }
  const held = document.activeElement?.dataset?.schedule;
  at("schedules").replaceChildren(...schedules.map(entry));
  if (schedules.length === 0) {
    at("schedules").append(make("li", {}, "Nothing runs by the clock."));
  }
  if (held) document.querySelector(`[data-schedule="${CSS.escape(held)}"]`)?.focus();
  return schedules.some(({ lastRun }) => lastRun && !lastRun.ended);
}

function entry(schedule) {
  const run = make("button", {
    type: "button", ariaLabel: `Run now: ${schedule.name}`, onclick: () => runNow(schedule.name),
  }, "Run now");
  run.dataset.schedule = schedule.name;
  const what = [WHAT[schedule.what] ?? schedule.what, schedule.database].filter(Boolean).join(" of ");
  const element = make("li", {}, run, make("strong", {}, schedule.name), ` ${what}, `,
    `${schedule.cron} (${schedule.timeZone})`);
  const last = schedule.lastRun;
  const words = [schedule.nextRun ? `next ${schedule.nextRun.slice(0, 16)} UTC` : "never again"];
  if (last) words.push(`last ${ago(last.started)}: ${last.state || "under way"} ${last.said}`.trim());
  if (schedule.missed) words.push(`${many(schedule.missed, "run was", "runs were")} missed`);
  if (schedule.skipped) words.push(`${many(schedule.skipped, "run")} left out: one went on`);
  const state = last?.state === "failed" ? "error" : "hint";
  element.append(make("div", { className: state }, words.join(" · ")));
  return element;
}

async function runNow(name) {
  try {
    await api.begin(`/api/vault/schedules/${encodeURIComponent(name)}/run`);
    say(`${name} runs now.`);
  } catch (error) {
    say(error.message);
  }
}
