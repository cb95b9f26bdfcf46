// What happened over time: a calendar of backups, and how their sizes and durations grow.
import { at, make, size, span, time } from "./words.js";

const BARS_MAX = 60;
const BAR_MAX = 40;
const [WIDE, TALL, GROUND] = [560, 200, 180];
const SVG = "http://www.w3.org/2000/svg";
const DAYS = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];

let shown = null;
let backups = [];
let chosen = () => {};

/** `choose` is called with a day, `YYYY-MM-DD` in UTC as the server writes times. */
export function start(choose) {
  chosen = choose;
  at("month-before").addEventListener("click", () => turn(-1));
  at("month-after").addEventListener("click", () => turn(1));
}

export function show(found, jobs) {
  backups = found;
  shown ??= new Date().toISOString().slice(0, 7);
  calendar();
  chart(jobs);
}

export const isGood = (backup) => backup.complete && backup.proof?.ok !== false;

function turn(by) {
  const [year, month] = shown.split("-").map(Number);
  shown = new Date(Date.UTC(year, month - 1 + by, 1)).toISOString().slice(0, 7);
  calendar();
}

function calendar() {
  const [year, month] = shown.split("-").map(Number);
  const first = new Date(Date.UTC(year, month - 1, 1));
  const length = new Date(Date.UTC(year, month, 0)).getUTCDate();
  at("month").textContent =
    first.toLocaleDateString("en", { month: "long", year: "numeric", timeZone: "UTC" });
  const days = new Map();
  for (const backup of backups) {
    const day = backup.modified.slice(0, 10);
    if (day.startsWith(shown)) days.set(day, [...(days.get(day) ?? []), backup]);
  }
  const cells = Array((first.getUTCDay() + 6) % 7).fill(null);
  for (let day = 1; day <= length; day += 1) cells.push(`${shown}-${String(day).padStart(2, "0")}`);
  while (cells.length % 7) cells.push(null);
  const weeks = [];
  for (let index = 0; index < cells.length; index += 7) {
    weeks.push(make("tr", {}, ...cells.slice(index, index + 7)
      .map((day) => make("td", {}, ...(day ? [cell(day, days.get(day) ?? [])] : [])))));
  }
  const head = make("tr", {}, ...DAYS.map((day) => make("th", { scope: "col" }, day)));
  at("calendar").replaceChildren(make("thead", {}, head), make("tbody", {}, ...weeks));
}

function cell(day, made) {
  const number = String(Number(day.slice(8)));
  if (made.length === 0) return make("span", { className: "hint" }, number);
  const good = made.filter(isGood).length;
  const bad = made.length - good;
  const words = ` ${made.length === 1 ? "backup" : "backups"} on ${day}`
    + (bad ? `, ${bad} of them bad` : "");
  return make("button", {
    type: "button",
    className: bad ? "day danger" : "day",
    onclick: () => chosen(day),
  }, `${number} `, make("sub", {}, String(made.length)), make("span", { className: "away" }, words));
}

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Bars are sizes, the line is how long the backup took; each bar says both when pointed at. */
function chart(jobs) {
  const own = backups.filter((backup) => backup.origin !== "uploaded");
  const last = own.toSorted((a, b) => (a.modified < b.modified ? -1 : 1)).slice(-BARS_MAX);
  at("chart").hidden = last.length < 2;
  if (last.length < 2) return;
  const took = last.map((backup) => {
    const job = jobs.get(backup.job);
    return job?.ended ? (time(job.ended) - time(job.started)) / 1000 : null;
  });
  const [largest, longest] = [Math.max(...last.map((one) => one.size), 1), Math.max(...took, 1)];
  const step = WIDE / last.length;
  const picture = draw("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img" });
  const [from, to] = [last[0], last.at(-1)];
  const words = `The last ${last.length} backups, ${from.modified.slice(0, 10)} to `
    + `${to.modified.slice(0, 10)}: ${size(from.size)} at first, ${size(to.size)} now, `
    + `${size(largest)} at most`;
  picture.append(draw("title", {}));
  picture.firstChild.textContent = words;
  const line = [];
  last.forEach((backup, index) => {
    const tall = Math.max(1, (backup.size / largest) * (GROUND - 10));
    const width = Math.min(step * 0.7, BAR_MAX);
    const bar = draw("rect", {
      x: index * step + (step - width) / 2, y: GROUND - tall, width, height: tall,
      class: isGood(backup) ? "bar-good" : "bar-bad",
    });
    const name = draw("title", {});
    name.textContent = `${backup.key}: ${size(backup.size)}, ${backup.modified.slice(0, 16)}`
      + (took[index] === null ? "" : `, took ${span(took[index])}`);
    bar.append(name);
    picture.append(bar);
    if (took[index] !== null) {
      line.push(`${index * step + step / 2},${GROUND - (took[index] / longest) * (GROUND - 10)}`);
    }
  });
  picture.append(draw("polyline", { points: line.join(" "), class: "took" }));
  const durations = took.some((one) => one !== null)
    ? ` The line is how long each took, ${span(longest)} at most.` : "";
  at("chart").replaceChildren(picture,
    make("figcaption", { className: "hint" }, `${words}.${durations}`));
}
