// Numbers as people say them, and small helpers for the document.

export const at = (id) => document.getElementById(id);

/** An element with properties and children; text is never taken for markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "role") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

export function span(seconds) {
  const [count, unit] = [
    [86_400, "day"], [3_600, "hour"], [60, "minute"], [1, "second"],
  ].map(([length, name]) => [Math.floor(seconds / length), name]).find(([n]) => n >= 1)
    ?? [0, "second"];
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** PocketBase writes times with a blank. */
export const time = (text) => Date.parse(text.replace(" ", "T"));
export const age = (text) => Math.max(0, (Date.now() - time(text)) / 1000);
export const ago = (text) => (age(text) < 1 ? "just now" : `${span(age(text))} ago`);
export const many = (count, one, more = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
