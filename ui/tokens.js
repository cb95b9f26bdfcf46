// Tokens for scripts, and the record of who did what.
import * as api from "./api.js";
import { ask } from "./ask.js";
import { ago, at, make } from "./words.js";
import { say } from "./work.js";

const PER_PAGE = 50;
let page = 1;

export function start() {
  at("tokens").addEventListener("toggle", () => { if (at("tokens").open) guarded(list); });
  at("audit").addEventListener("toggle", () => { if (at("audit").open) guarded(first); });
  at("audit-more").addEventListener("click", () => guarded(more));
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    guarded(create);
  });
}

async function guarded(work) {
  try {
    await work();
  } catch (error) {
    if (error instanceof api.Refused && api.isIn()) say(error.message);
  }
}

async function list() {
  const tokens = await api.call("GET", "/api/vault/tokens");
  at("token-list").replaceChildren(...tokens.map((token) => {
    const words = [`may ${token.scopes.join(", ")}`, token.database && `for ${token.database}`,
      token.expires ? `until ${token.expires.slice(0, 10)}` : "for ever",
      token.used ? `last used ${ago(token.used)}` : "never used"].filter(Boolean);
    return make("li", {},
      make("button", {
        type: "button", className: "danger", ariaLabel: `Revoke… ${token.name}`,
        onclick: () => guarded(() => revoke(token)),
      }, "Revoke…"),
      make("strong", {}, token.name),
      make("div", { className: "hint" }, words.join(" · ")));
  }));
  if (tokens.length === 0) {
    at("token-list").append(make("li", {}, "There is none: scripts would need a password."));
  }
}

async function create() {
  const days = at("token-days").value;
  const made = await api.call("POST", "/api/vault/tokens", {
    name: at("token-name").value.trim(),
    scopes: [at("token-scope").value],
    ...(days ? { expiresIn: `${days}d` } : {}),
  });
  at("token-name").value = "";
  await list();
  const body = [make("p", {}, "This is told only now. Keep it where the script finds it:"),
    make("p", {}, make("code", { className: "secret" }, made.token))];
  await ask({ title: `The token ${made.name}`, body });
}

async function revoke(token) {
  const body = [make("p", {}, `Scripts that use ${token.name} are refused from now on.`)];
  if (!(await ask({ title: "Revoke a token", body, yes: "Revoke" }))) return;
  await api.call("DELETE", `/api/vault/tokens/${token.id}`);
  say(`${token.name} is no longer good.`);
  await list();
}

async function first() {
  page = 1;
  at("audit-list").replaceChildren();
  await more();
}

async function more() {
  const { items } = await api.call("GET", `/api/vault/audit?page=${page}&perPage=${PER_PAGE}`);
  page += 1;
  at("audit-list").append(...items.map((one) => make("li", {},
    make("strong", {}, one.who || "nobody known"), ` ${one.action} ${one.subject ?? ""}`,
    make("div", { className: one.status < 400 ? "hint" : "error" },
      [`${one.time.slice(0, 19)} UTC`, one.address, one.status].filter(Boolean).join(" · ")))));
  at("audit-more").hidden = items.length < PER_PAGE;
}
