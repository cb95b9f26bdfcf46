// The server's API: every call, the token, and the stream of events.

const KEPT = "pocketvault";
let session = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
let whenOut = () => {};

/** What is wrong with each field, also with those inside of others. */
const faults = (data) => Object.values(data).flatMap((field) =>
  (typeof field?.message === "string" ? [field.message]
    : typeof field === "object" && field ? faults(field) : []));

/** What the server said, in its words. */
export class Refused extends Error {
  constructor(status, body) {
    const words = [body?.message, ...faults(body?.data ?? {}), body?.hint].filter(Boolean);
    super(words.join(" ") || `The server answered ${status}.`);
    this.status = status;
  }
}

export const isIn = () => session !== null;
export const who = () => session?.email ?? "";
export const token = () => session?.token ?? "";
export const onOut = (call) => { whenOut = call; };

export function leave(why = "") {
  session = null;
  sessionStorage.removeItem(KEPT);
  whenOut(why);
}

export async function login(identity, password) {
  const path = "/api/collections/_superusers/auth-with-password";
  const answer = await call("POST", path, { identity, password });
  session = { token: answer.token, email: answer.record.email };
  sessionStorage.setItem(KEPT, JSON.stringify(session));
}

export async function send(method, path, body, headers = {}) {
  const init = { method, headers: { ...headers } };
  if (session) init.headers.Authorization = session.token;
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const answer = await fetch(path, init);
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  if (answer.status === 401 && session) leave("Your login has expired. Log in again.");
  throw new Refused(answer.status, said);
}

export async function call(method, path, body, headers) {
  const answer = await send(method, path, body, headers);
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

export const backupPath = (key) => `/api/backups/${encodeURIComponent(key)}`;
export const ours = (key, action) =>
  `/api/vault/backups/${encodeURIComponent(key)}/${action}`;

/** Begins a job; gives its number. */
export async function begin(path, body) {
  const answer = await send("POST", path, body, { Prefer: "respond-async" });
  return Number((answer.headers.get("Location") ?? "").split("/").pop());
}

/** Follows the jobs for as long as somebody is logged in, through restarts. */
export async function follow(onJob, onState) {
  const mine = session;
  let last = "";
  while (session === mine && session) {
    let refused = false;
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await send("GET", "/api/vault/events", undefined, headers);
      onState(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done || session !== mine) break;
        text += value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const event = parsed(block);
          last = event.id ?? last;
          if (event.event === "job") onJob(JSON.parse(event.data));
        }
      }
      await reader.cancel().catch(() => {});
    } catch (error) {
      if (session !== mine) return;
      refused = error instanceof Refused && error.status < 500;
      if (refused) onState(false, error.message);
    }
    if (session !== mine) return;
    if (!refused) onState(false);
    await pause(1000);
  }
}

function parsed(block) {
  const event = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) event[line.slice(0, at)] = line.slice(at + 2);
  }
  return event;
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
