// The list of backups: searched, sorted, and only the rows that are seen are made.
import { isGood } from "./time.js";
import { ago, at, make, many, size } from "./words.js";

// Rows above and below what is seen, so that the keyboard always has a next one.
const SPARE = 8;

const ACTIONS = [
  ["download", "Download"], ["check", "Check"], ["pin", "Pin"], ["restore", "Restore…"],
  ["remove", "Delete…"],
];
const SHOWN = {
  all: () => true,
  good: isGood,
  proven: (backup) => backup.proof?.ok === true,
  bad: (backup) => !isGood(backup),
  pinned: (backup) => backup.pinned,
  scheduled: (backup) => backup.method === "scheduled",
  asked: (backup) => backup.origin !== "uploaded" && backup.method !== "scheduled",
  uploaded: (backup) => backup.origin === "uploaded",
};
const sorting = { by: "modified", down: true };
const made = new Map();
const space = make("div", { className: "space", role: "presentation" });
let all = [];
let seen = [];
let actions = {};
let day = "";

export function start(given) {
  actions = given;
  at("rows").append(space);
  at("rows").addEventListener("scroll", () => requestAnimationFrame(draw));
  addEventListener("resize", () => requestAnimationFrame(draw));
  at("search").addEventListener("input", refresh);
  at("only").addEventListener("change", refresh);
  at("any-day").addEventListener("click", () => {
    choose("");
    at("search").focus();
  });
  for (const header of document.querySelectorAll("[data-sort]")) {
    header.firstElementChild.addEventListener("click", () => {
      const by = header.dataset.sort;
      sorting.down = sorting.by === by ? !sorting.down : by !== "key";
      sorting.by = by;
      refresh();
    });
  }
  // Ages grow while nobody does anything.
  setInterval(() => made.forEach((row) => { row.age.textContent = ago(row.backup.modified); }),
    30_000);
}

export function show(backups) {
  all = backups;
  refresh();
}

/** Shows those of one day only, `YYYY-MM-DD`; all days without one. */
export function choose(chosen) {
  day = chosen;
  at("any-day").hidden = !day;
  at("any-day").textContent = day ? `Only ${day}: show all days` : "";
  refresh();
  if (day) at("rows").focus();
}

function refresh() {
  const words = at("search").value.trim().toLowerCase();
  const { by, down } = sorting;
  const fits = SHOWN[at("only").value];
  seen = all.filter((backup) => fits(backup) && backup.modified.startsWith(day)
    && `${backup.key} ${backup.label}`.toLowerCase().includes(words));
  seen.sort((a, b) => (a[by] < b[by] ? -1 : a[by] > b[by] ? 1 : 0) * (down ? -1 : 1));
  for (const header of document.querySelectorAll("[data-sort]")) {
    const order = down === (header.dataset.sort === "modified") ? "ascending" : "descending";
    header.setAttribute("aria-sort", header.dataset.sort === by ? order : "none");
  }
  at("count").textContent = seen.length < all.length
    ? `${seen.length.toLocaleString("en")} of ${many(all.length, "backup")}`
    : many(all.length, "backup");
  at("table").setAttribute("aria-rowcount", String(seen.length + 1));
  at("empty").hidden = seen.length > 0;
  at("empty").textContent = all.length ? "No backup is like this." : "There is no backup yet.";
  at("table").hidden = seen.length === 0;
  draw();
}

const height = () => (matchMedia("(max-width: 44rem)").matches ? 136 : 48);

function draw() {
  const [box, tall] = [at("rows"), height()];
  space.style.height = `${seen.length * tall}px`;
  const first = Math.max(0, Math.floor(box.scrollTop / tall) - SPARE);
  const last = Math.min(seen.length, Math.ceil((box.scrollTop + box.clientHeight) / tall) + SPARE);
  const wanted = new Map();
  for (let index = first; index < last; index += 1) wanted.set(seen[index].key, index);
  for (const [key, row] of made) {
    if (wanted.has(key)) continue;
    // Scrolling does not take the focus away from anybody.
    const index = row.element.contains(document.activeElement)
      ? seen.findIndex((backup) => backup.key === key) : -1;
    if (index >= 0) {
      wanted.set(key, index);
      continue;
    }
    row.element.remove();
    made.delete(key);
  }
  let before = null;
  for (const [key, index] of [...wanted].sort((a, b) => a[1] - b[1])) {
    const row = made.get(key) ?? fresh(seen[index]);
    made.set(key, row);
    fill(row, seen[index], index, tall);
    // In the order that is seen: Tab and screen readers go by it.
    const place = before ? before.nextSibling : space.firstChild;
    if (place !== row.element) space.insertBefore(row.element, place);
    before = row.element;
  }
}

function fresh(backup) {
  const cells = {
    key: make("div", { role: "rowheader", className: "key" }),
    size: make("div", { role: "cell", className: "size" }),
    age: make("div", { role: "cell", className: "age" }),
    acts: make("div", { role: "cell", className: "acts" }),
  };
  const element = make("div", { role: "row", className: "row" }, ...Object.values(cells));
  const row = { ...cells, element, backup };
  for (const [action, words] of ACTIONS) {
    cells.acts.append(make("button", {
      type: "button",
      ariaLabel: `${words} ${backup.key}`,
      className: action === "restore" || action === "remove" ? "danger" : "",
      onclick: () => actions[action](row.backup),
    }, words));
  }
  return row;
}

function fill(row, backup, index, tall) {
  row.backup = backup;
  row.element.setAttribute("aria-rowindex", String(index + 2));
  row.element.style.transform = `translateY(${index * tall}px)`;
  const pin = row.acts.children[ACTIONS.findIndex(([action]) => action === "pin")];
  pin.textContent = backup.pinned ? "Unpin" : "Pin";
  pin.ariaLabel = `${pin.textContent} ${backup.key}`;
  const small = tall > 48 ? ` · ${size(backup.size)} · ${ago(backup.modified)}` : "";
  row.key.replaceChildren(backup.key + small, ...marks(backup));
  row.key.title = backup.key;
  row.size.textContent = size(backup.size);
  row.age.textContent = ago(backup.modified);
  row.age.title = backup.modified;
}

/** What is known about a backup, in a few words. */
function marks(backup) {
  const words = [];
  if (backup.pinned) words.push("pinned");
  if (!isGood(backup)) words.push(backup.complete ? "damaged" : "not whole");
  else if (backup.proof) words.push(backup.proof.kind === "drill" ? "drilled" : "proven");
  if (backup.label) words.push(backup.label);
  if (words.length === 0) return [];
  const state = isGood(backup) ? "hint" : "error";
  return [make("span", { className: `marks ${state}` }, words.join(" · "))];
}
