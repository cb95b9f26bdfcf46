// What the rules of retention would remove, before they do; and who is told of troubles.
import * as api from "./api.js";
import { ask } from "./ask.js";
import { ago, at, make, many, size } from "./words.js";
import { say } from "./work.js";

// A preview, not the list.
const LISTED_MAX = 200;

export function start(refresh) {
  for (const [id, load] of [["rules", preview], ["alarms", receivers]]) {
    at(id).addEventListener("toggle", () => { if (at(id).open) guarded(load); });
  }
  at("rules-do").addEventListener("click", () => guarded(async () => {
    const found = await api.call("GET", "/api/vault/prune");
    const body = [make("p", {}, `${many(found.expired.length, "backup")} (${size(found.bytes)}) `
      + `will be gone for good; ${many(found.kept, "backup stays", "backups stay")}.`)];
    if (!(await ask({ title: "Remove what no rule keeps", body, yes: "Remove" }))) return;
    await api.begin("/api/vault/prune");
    refresh();
  }));
}

/** Shown again when something changed, if somebody looks. */
export function changed() {
  if (at("rules").open) guarded(preview);
  if (at("alarms").open) guarded(receivers);
}

async function guarded(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof api.Refused && api.isIn()) say(error.message);
  }
}

async function preview() {
  const { held, expired, bytes, kept } = await api.call("GET", "/api/vault/prune");
  at("rules-said").textContent = held ? `Nothing would go: ${held}`
    : expired.length ? `${many(expired.length, "backup")} (${size(bytes)}) would go, `
      + `${many(kept, "backup stays", "backups stay")}.`
      : `Nothing would go: the rules keep all, or there are none. `
        + `${many(kept, "backup")} here.`;
  at("rules-list").replaceChildren(...expired.slice(0, LISTED_MAX).map((backup) =>
    make("li", {}, backup.key,
      make("div", { className: "hint" }, `${size(backup.size)} · ${ago(backup.modified)}`))));
  at("rules-list").hidden = expired.length === 0;
  at("rules-do").hidden = Boolean(held) || expired.length === 0;
}

async function receivers() {
  const { channels, troubles } = await api.call("GET", "/api/vault/notify");
  at("troubles").replaceChildren(...troubles.map((trouble) =>
    make("li", { className: "error" }, `${trouble.condition}, since ${trouble.since.slice(0, 16)} UTC`)));
  at("troubles").hidden = troubles.length === 0;
  at("channels").replaceChildren(...channels.map((channel) => make("li", {},
    make("button", {
      type: "button", ariaLabel: `Send a test to ${channel.name}`, onclick: () => test(channel.name),
    }, "Send a test"),
    make("strong", {}, channel.name), ` ${channel.type}`,
    make("div", { className: "hint" }, `told of: ${channel.events.join(", ")}`))));
  if (channels.length === 0) {
    at("channels").append(make("li", {}, "Nobody is told. Add a [[notify]] table to "
      + "pocketvault.toml: silence must not mean that there are no backups."));
  }
}

async function test(name) {
  try {
    await api.call("POST", "/api/vault/notify/test", { name });
    say(`${name} took the test.`);
  } catch (error) {
    say(error.message);
  }
}
