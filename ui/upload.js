// Uploads, one after the other, with what was really sent.
import { leave, token } from "./api.js";
import { at, make } from "./words.js";
import { line, pace, say } from "./work.js";

let queue = Promise.resolve();
let count = 0;

export function start(whenDone) {
  at("files").addEventListener("change", () => {
    add([...at("files").files], whenDone);
    at("files").value = "";
  });
  let depth = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const over = (change) => (event) => {
    if (!carries(event) || at("vault").hidden) return;
    event.preventDefault();
    depth += change;
    document.body.classList.toggle("dropping", depth > 0);
  };
  addEventListener("dragenter", over(1));
  addEventListener("dragleave", over(-1));
  addEventListener("dragover", over(0));
  addEventListener("drop", (event) => {
    if (!carries(event) || at("vault").hidden) return;
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dropping");
    add([...event.dataTransfer.files], whenDone);
  });
}

function add(files, whenDone) {
  for (const file of files) {
    count += 1;
    const id = `upload ${count}`;
    const request = new XMLHttpRequest();
    let stopped = false;
    const row = line(id, `Sending ${file.name}`, () => {
      stopped = true;
      request.abort();
      row.end();
      say(`${file.name} was not uploaded: it was cancelled.`);
    });
    row.show(0, file.size, "waiting");
    queue = queue.then(() => (stopped ? null : one(request, file, row)))
      .then((text) => {
        if (text) say(text);
        if (!stopped) row.end();
        whenDone();
      });
  }
}

/** Sends one file; gives what is to be said of it. */
function one(request, file, row) {
  return new Promise((resolve) => {
    const form = new FormData();
    form.set("file", file);
    const began = Date.now();
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      const rate = loaded / Math.max(0.001, (Date.now() - began) / 1000);
      const left = loaded < total ? Math.ceil((total - loaded) / rate) : null;
      const words = loaded < total ? pace(loaded, total, rate, left) : "sent, being checked";
      row.show(loaded, total, words);
    });
    request.addEventListener("load", () => {
      if (request.status === 401) leave("Your login has expired. Log in again.");
      if (request.status < 300) return resolve(`${file.name} was uploaded.`);
      return resolve(`${file.name} was not uploaded: ${words(request)}`);
    });
    request.addEventListener("error", () => resolve(`${file.name} was not uploaded: the `
      + "connection broke off."));
    request.addEventListener("abort", () => resolve(null));
    request.open("POST", "/api/backups/upload");
    request.setRequestHeader("Authorization", token());
    request.send(form);
  });
}

function words(request) {
  try {
    const said = JSON.parse(request.responseText);
    const fields = Object.values(said.data ?? {}).map((field) => field.message);
    return [said.message, ...fields].join(" ");
  } catch {
    return `the server answered ${request.status}.`;
  }
}

/** Begins a download that the browser carries on by itself. */
export function download(key, path, fileToken) {
  const link = make("a", { href: `${path}?token=${encodeURIComponent(fileToken)}`, download: key });
  document.body.append(link);
  link.click();
  link.remove();
}
