// A real Chromium, and what every page is held to: no error in its console, nothing that its
// Content-Security-Policy refused, no request that failed without being expected.
import fs from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";

function required(name) {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is not set; the Rust harness sets it`);
    return value;
}

export const env = {
    base: required("PEER_A"),
    email: required("PEER_EMAIL"),
    password: required("PEER_PASSWORD"),
    shots: required("PEER_SHOTS"),
    dir: required("PEER_DIR_A"),
    // Where the page is, and what its screenshots are called.
    page: required("PEER_PAGE"),
    name: required("PEER_NAME"),
    chromium: required("PEER_CHROMIUM"),
};

// Longer than anything takes on a loaded machine; a hanging page fails the test, not the run.
const PATIENCE_MS = 30_000;

export async function open(options = {}) {
    const browser = await chromium.launch({
        executablePath: env.chromium,
        // In a container the sandbox has no right to start. Only our own pages are opened.
        args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    });
    const context = await browser.newContext({ acceptDownloads: true, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    const complaints = [];
    page.on("console", (message) => {
        if (message.type() === "error") complaints.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
    return { browser, context, page, complaints };
}

export async function step(sentence, body) {
    const began = Date.now();
    try {
        await body();
    } catch (error) {
        console.error(`FAILED: ${sentence}`);
        throw error;
    }
    console.log(`ok: ${sentence} (${Date.now() - began} ms)`);
}

export async function shot(page, name) {
    fs.mkdirSync(env.shots, { recursive: true });
    await page.screenshot({ path: path.join(env.shots, `${name}.png`) });
}

// The API, past the page: what the page says is compared with it.
export async function api(method, where, body) {
    const login = await fetch(`${env.base}/api/collections/_superusers/auth-with-password`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ identity: env.email, password: env.password }),
    });
    const { token } = await login.json();
    const answer = await fetch(env.base + where, {
        method,
        headers: { Authorization: token, "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${await answer.text()}`);
    const text = await answer.text();
    return text ? JSON.parse(text) : null;
}

export async function eventually(sentence, condition, seconds = 30) {
    const end = Date.now() + seconds * 1000;
    let last = "";
    while (Date.now() < end) {
        try {
            const value = await condition();
            if (value) return value;
            last = `got ${value}`;
        } catch (error) {
            last = String(error);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`never came true in ${seconds} s: ${sentence} (last: ${last})`);
}
