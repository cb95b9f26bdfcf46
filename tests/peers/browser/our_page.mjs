// Our own page in a real Chromium: every action, the keyboard, both schemes of colours, a phone,
// ten thousand backups, an expired login, and axe-core.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { api, env, eventually, open, shot, step } from "./browser.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const where = env.base + env.page;
const dir = env.dir;
const { browser, context, page, complaints } = await open();

// Whatever the page's policy refuses is told here, also in the background.
const violations = [];
await page.exposeFunction("tellViolation", (text) => violations.push(text));
await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
        window.tellViolation(`${event.violatedDirective} ${event.blockedURI}`);
    });
});

const keys = async () => (await api("GET", "/api/backups")).map((backup) => backup.key).sort();
const appName = async () => (await api("GET", "/api/settings")).meta.appName;
const rename = (name) => api("PATCH", "/api/settings", { meta: { appName: name } });
const said = page.locator("#said");
const says = (text) => said.filter({ hasText: text }).waitFor();
const row = (key) => page.getByRole("row").filter({ has: page.getByTitle(key, { exact: true }) });
const act = (key, words) => row(key).getByRole("button", { name: `${words} ${key}` }).click();
const asked = page.getByRole("dialog");
const shownKeys = () => page.locator("#rows .key").evaluateAll((all) => all.map((one) => one.title));

async function login(password = env.password) {
    await page.getByLabel("E-mail").fill(env.email);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
}

// The policy forbids scripts of others, so axe-core is run past it.
async function accessible(view) {
    const session = await context.newCDPSession(page);
    const run = (expression) =>
        session.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    await run(fs.readFileSync(AXE, "utf8"));
    const { result } = await run("axe.run(document).then((found) => JSON.stringify("
        + "found.violations.map((one) => [one.impact, one.id, one.nodes.map((n) => n.html)])))");
    await session.detach();
    assert.deepEqual(JSON.parse(result.value), [], `${view}: axe-core finds nothing`);
}

// Whatever is wider than the window must be scrolled sideways on a phone.
async function fits(view) {
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${view} is ${wide} pixels too wide`);
}

await step("keeps out who does not know the password, in the server's words", async () => {
    await rename("before");
    const answer = await page.goto(where);
    assert.match(answer.headers()["content-security-policy"], /default-src 'none'/);
    await accessible("login");
    await shot(page, `${env.name}-login`);
    await login("a wrong password");
    await page.getByText("Failed to authenticate.").waitFor();
    const meant = complaints.splice(0);
    assert.equal(meant.length, 1);
    assert.match(meant[0], /400/);
});

await step("says first of all whether one is safe", async () => {
    await login();
    await page.getByRole("heading", { name: "You have no backup." }).waitFor();
    await page.getByText("No schedule is set").waitFor();
    await page.getByText("There is no backup yet.").waitFor();
});

await step("makes backups and tells how it goes", async () => {
    await page.getByLabel("Name (optional)").fill("one.zip");
    await page.getByRole("button", { name: "Make a backup" }).click();
    await says("Backup one.zip: done.");
    await row("one.zip").waitFor();
    await page.getByRole("heading", { name: "You are safe for now." }).waitFor();
    await page.getByLabel("Name (optional)").fill("one.zip");
    await page.keyboard.press("Enter");
    await says("already exists");
    assert.match(complaints.pop(), /400/);
    assert.deepEqual(await keys(), ["one.zip"]);
});

await step("shows progress, rate and time left, and cancels", async () => {
    // Noise does not compress, and takes its time.
    const files = path.join(dir, "storage", "noise");
    fs.mkdirSync(files, { recursive: true });
    const block = Buffer.concat(Array(128).fill(randomBytes(65_536)));
    for (let index = 0; index < 40; index += 1) fs.writeFileSync(path.join(files, `${index}`), block);
    await page.getByLabel("Name (optional)").fill("big.zip");
    await page.getByRole("button", { name: "Make a backup" }).click();
    const line = page.locator("#work li").filter({ hasText: "big.zip" });
    await line.filter({ hasText: /packing: [\d.]+ [KMG]B of [\d.]+ [MG]B, [\d.]+ [KMG]B\/s/ }).waitFor();
    await shot(page, `${env.name}-working`);
    await line.getByRole("button", { name: "Cancel: Backup big.zip" }).click();
    await says("Backup big.zip: cancelled.");
    await line.waitFor({ state: "detached" });
    assert.deepEqual(await keys(), ["one.zip"]);
    fs.rmSync(files, { recursive: true });
});

const kept = path.join(env.shots, `${env.name}.zip`);

await step("downloads with a token of its own", async () => {
    const download = page.waitForEvent("download");
    await act("one.zip", "Download");
    await (await download).saveAs(kept);
    const { size } = (await api("GET", "/api/backups")).find((one) => one.key === "one.zip");
    assert.equal(fs.statSync(kept).size, size);
});

await step("checks one by reading it back", async () => {
    await act("one.zip", "Check");
    await says("Check one.zip: done.");
    await page.getByText(/It was read back .* and is sound/).waitFor();
});

await step("uploads several files, and says what was refused", async () => {
    const zip = (name, buffer) => ({ name, mimeType: "application/zip", buffer });
    await page.locator("#files").setInputFiles([
        zip("two.zip", fs.readFileSync(kept)),
        zip("bad.zip", Buffer.from("no archive")),
    ]);
    await says("bad.zip was not uploaded");
    await row("two.zip").waitFor();
    assert.match(complaints.pop(), /400/);
    assert.deepEqual(await keys(), ["one.zip", "two.zip"]);
    // What was brought here is not taken for a backup of the data of now.
    await page.getByText("1 archive was uploaded").waitFor();
    await page.getByText("The newest backup is one.zip").waitFor();
});

await step("takes what is dropped", async () => {
    const bytes = fs.readFileSync(kept).toString("base64");
    const transfer = await page.evaluateHandle((text) => {
        const data = new DataTransfer();
        const buffer = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        data.items.add(new File([buffer], "dropped.zip", { type: "application/zip" }));
        return data;
    }, bytes);
    await page.dispatchEvent("body", "dragenter", { dataTransfer: transfer });
    await page.locator("body.dropping").waitFor();
    await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
    await says("dropped.zip was uploaded.");
    await row("dropped.zip").waitFor();
    await accessible("vault");
    await shot(page, `${env.name}-vault`);
});

await step("searches and sorts", async () => {
    await page.getByLabel("Search by name").fill("ONE");
    await eventually("only one is left", async () => (await shownKeys()).join() === "one.zip");
    await page.getByLabel("Search by name").fill("");
    await page.getByRole("button", { name: "Name" }).click();
    await eventually("sorted by name", async () =>
        (await shownKeys()).join() === "dropped.zip,one.zip,two.zip");
    await page.getByRole("button", { name: "Name" }).click();
    await eventually("and backwards", async () =>
        (await shownKeys()).join() === "two.zip,one.zip,dropped.zip");
    await page.getByRole("columnheader", { name: "Name" }).and(
        page.locator("[aria-sort=descending]")).waitFor();
});

await step("pins, and shows those of one kind or of one day", async () => {
    await act("one.zip", "Pin");
    await says("one.zip is kept, whatever the rules say.");
    await row("one.zip").getByText("pinned").waitFor();
    for (const [kind, left] of [["pinned ones", "one.zip"], ["uploaded ones", "two.zip,dropped.zip"],
        ["proven ones", "one.zip"], ["made by the clock", ""]]) {
        await page.getByLabel("Show", { exact: true }).selectOption(kind);
        await eventually(`those that are ${kind}`, async () =>
            (await shownKeys()).sort().join() === left.split(",").sort().join());
    }
    await page.getByLabel("Show", { exact: true }).selectOption("all");
    await act("one.zip", "Unpin");
    await says("one.zip is kept as the rules say.");
    const { modified } = (await api("GET", "/api/backups")).find((one) => one.key === "one.zip");
    const day = modified.slice(0, 10);
    const shownDay = page.getByRole("button", { name: `3 backups on ${day}` });
    await shownDay.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: `Only ${day}: show all days` }).click();
    await page.getByRole("button", { name: "Month before" }).click();
    await shownDay.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Month after" }).click();
    await shownDay.waitFor();
});

await step("tells what the rules would remove, and who is told of troubles", async () => {
    await page.getByText("What the rules would remove").click();
    await page.getByText("Nothing would go").waitFor();
    await page.getByText("Who is told").click();
    await page.getByText("Nobody is told.").waitFor();
    await page.getByText("Tokens for scripts").click();
    await page.getByText("There is none: scripts would need a password.").waitFor();
    await page.getByText("Who did what").first().click();
    const audit = page.locator("#audit-list");
    await audit.getByText(env.email).first().waitFor();
    await audit.getByText("one.zip").first().waitFor();
    await accessible("with everything open");
    await shot(page, `${env.name}-open`);
});

await step("makes a token for a script, shows it once, and revokes it", async () => {
    await page.getByLabel("What it is for").fill("nightly");
    await page.getByLabel("May", { exact: true }).selectOption("look");
    await page.getByRole("button", { name: "Make a token" }).click();
    const token = await asked.locator("code").innerText();
    await accessible("the token");
    await asked.getByRole("button", { name: "Close" }).click();
    const ask = (where) => fetch(env.base + where, { headers: { Authorization: token } });
    assert.equal((await ask("/api/vault/status")).status, 200);
    assert.ok([401, 403].includes((await ask("/api/vault/audit")).status));
    await page.getByRole("button", { name: "Revoke… nightly" }).click();
    await asked.getByRole("button", { name: "Revoke" }).click();
    await says("nightly is no longer good.");
    assert.equal((await ask("/api/vault/status")).status, 401);
});

await step("deletes by the keyboard alone, after a question", async () => {
    await page.getByRole("button", { name: "Delete… dropped.zip" }).focus();
    await page.keyboard.press("Enter");
    await asked.getByRole("heading", { name: "Delete a backup" }).waitFor();
    await page.keyboard.press("Escape");
    await asked.waitFor({ state: "hidden" });
    const focused = await page.evaluate(() => document.activeElement.ariaLabel);
    assert.equal(focused, "Delete… dropped.zip", "the focus comes back");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await says("dropped.zip was deleted.");
    assert.deepEqual(await keys(), ["one.zip", "two.zip"]);
});

await step("says why a backup cannot be restored", async () => {
    fs.writeFileSync(path.join(dir, "backups", "torn.zip"), fs.readFileSync(kept).subarray(0, 900));
    await page.reload();
    await act("torn.zip", "Restore…");
    await asked.getByText("This backup cannot be restored:").waitFor();
    assert.equal(await asked.getByRole("button", { name: "Restore" }).count(), 0);
    await accessible("refusal");
    await asked.getByRole("button", { name: "Close" }).click();
    fs.rmSync(path.join(dir, "backups", "torn.zip"));
});

await step("plans, wants the name typed, and restores through the restart", async () => {
    fs.mkdirSync(path.join(dir, "storage", "new"), { recursive: true });
    fs.writeFileSync(path.join(dir, "storage", "new", "upload.txt"), "only here");
    await rename("after");
    await act("one.zip", "Restore…");
    await asked.getByText("What will be lost").waitFor();
    await asked.getByText("1 file (9 B) that the backup does not have").waitFor();
    const confirm = asked.getByRole("button", { name: "Restore" });
    assert.equal(await confirm.isDisabled(), true);
    await asked.getByLabel("Type one.zip to confirm").fill("one");
    assert.equal(await confirm.isDisabled(), true);
    await accessible("plan");
    await shot(page, `${env.name}-plan`);
    await asked.getByLabel("Type one.zip to confirm").fill("one.zip");
    await page.keyboard.press("Enter");
    await asked.getByText("Unpack and check").waitFor();
    await asked.getByText("Done. The data opens and is served").waitFor({ timeout: 60_000 });
    await shot(page, `${env.name}-restored`);
    await asked.getByRole("button", { name: "Close" }).click();
    assert.equal(await appName(), "before");
    assert.equal(fs.existsSync(path.join(dir, "storage", "new")), false);
});

await step("undoes it", async () => {
    await page.getByRole("button", { name: "Undo the restore…" }).click();
    await asked.getByLabel("Type undo to confirm").fill("undo");
    await asked.getByRole("button", { name: "Undo" }).click();
    await asked.getByText("Done. The data opens and is served").waitFor({ timeout: 60_000 });
    await asked.getByRole("button", { name: "Close" }).click();
    assert.equal(await appName(), "after");
    assert.equal(fs.readFileSync(path.join(dir, "storage", "new", "upload.txt"), "utf8"), "only here");
});

await step("sets PocketBase's own schedule, and refuses a wrong one in the server's words", async () => {
    await page.getByLabel("PocketBase's own schedule").fill("no schedule");
    await page.getByRole("button", { name: "Save the schedule" }).click();
    await says(/cron expression/i);
    assert.match(complaints.pop(), /400/);
    await page.getByLabel("PocketBase's own schedule").fill("5 4 * * *");
    await page.keyboard.press("Enter");
    await says("Backups are made at 5 4 * * * (UTC) from now on.");
    assert.equal((await api("GET", "/api/settings")).backups.cron, "5 4 * * *");
    const schedule = page.locator("#schedules li").filter({ hasText: "5 4 * * * (UTC)" });
    await schedule.getByText(/next \d{4}-\d\d-\d\d 04:05 UTC/).waitFor();
    await schedule.getByRole("button", { name: "Run now" }).click();
    await says("runs now.");
    await row("one.zip").waitFor();
    await eventually("a backup by the clock", async () =>
        (await keys()).some((key) => key.startsWith("@auto_pb_backup_")));
    const auto = (await keys()).find((key) => key.startsWith("@auto_pb_backup_"));
    await row(auto).waitFor();
    await schedule.getByText(/last .*done/).waitFor();
    // The newest one decides below, and the one that was made first shall be it.
    await act(auto, "Delete…");
    await asked.getByRole("button", { name: "Delete" }).click();
    await says(`${auto} was deleted.`);
});

await step("judges by the schedule, by age and by how the last backup ended", async () => {
    await api("PATCH", "/api/settings", { backups: { cron: "5 4 * * *" } });
    await page.reload();
    await page.getByRole("heading", { name: "You are safe.", exact: true }).waitFor();
    await page.getByText(/The next backup is made by the clock at \d{4}-\d\d-\d\d 04:05 UTC/).waitFor();
    await page.getByText("are free where backups lie").waitFor();
    for (const [days, title] of [
        [2, "Your newest backup is getting old."],
        [4, "Your backups are too old."],
        [0, "You are safe."],
    ]) {
        await page.clock.setFixedTime(new Date(Date.now() + days * 86_400_000));
        await page.reload();
        await page.getByRole("heading", { name: title, exact: true }).waitFor();
    }
});

await step("goes on living after two restarts, and remembers what happened", async () => {
    await page.getByLabel("Name (optional)").fill("later.zip");
    await page.keyboard.press("Enter");
    await says("Backup later.zip: done.");
    await row("later.zip").waitFor();
    const history = page.locator("#jobs");
    for (const words of [
        "done Undo", "done Restore one.zip", "cancelled Backup big.zip", "done Upload two.zip",
    ]) await history.getByText(words).first().waitFor();
});

await step("fits a phone, and the dark", async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.emulateMedia({ colorScheme: "dark" });
    await row("one.zip").scrollIntoViewIfNeeded();
    await fits("the vault");
    await accessible("phone in the dark");
    await shot(page, `${env.name}-phone`);
    await act("one.zip", "Restore…");
    await asked.getByText("What will be lost").waitFor();
    await fits("the plan");
    await accessible("plan on a phone in the dark");
    await shot(page, `${env.name}-phone-plan`);
    await page.keyboard.press("Escape");
    await asked.waitFor({ state: "hidden" });
    await page.setViewportSize({ width: 1280, height: 800 });
    await accessible("vault in the dark");
});

await step("scrolls through ten thousand", async () => {
    for (let index = 0; index < 10_000; index += 1) {
        const name = `many_${String(index).padStart(5, "0")}.zip`;
        fs.copyFileSync(kept, path.join(dir, "backups", name), fs.constants.COPYFILE_FICLONE);
    }
    await page.reload();
    await page.getByText("10,003 backups").first().waitFor();
    await page.getByRole("button", { name: "Name" }).click();
    await page.locator("#rows").evaluate((box) => { box.scrollTop = box.scrollHeight; });
    await row("two.zip").waitFor();
    assert.ok((await page.locator("#rows .row").count()) < 60, "only a window of rows is made");
    await page.locator("#rows").evaluate((box) => { box.scrollTop = 48 * 5_000; });
    await row("many_05000.zip").waitFor();
    await page.getByLabel("Search by name").fill("00042");
    await eventually("found", async () => (await shownKeys()).join() === "many_00042.zip");
    await shot(page, `${env.name}-many`);
    await page.getByLabel("Search by name").fill("");
    // Tab goes on through rows that were not there when it began.
    await page.locator("#rows").evaluate((box) => { box.scrollTop = 0; });
    await page.locator("#rows").focus();
    for (let press = 0; press < 5 * 40; press += 1) await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => document.activeElement.ariaLabel);
    assert.equal(focused, "Delete… many_00038.zip");
});

await step("asks for the login again when the token is no longer good", async () => {
    assert.deepEqual(complaints, []);
    await page.evaluate(() => {
        const kept = JSON.parse(sessionStorage.getItem("pocketvault"));
        kept.token = `${kept.token}x`;
        sessionStorage.setItem("pocketvault", JSON.stringify(kept));
    });
    await page.reload();
    await page.getByText("Your login has expired. Log in again.").waitFor();
    await login();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.getItem("pocketvault")), null);
});

assert.deepEqual(violations, []);
// Chromium itself logs the 401s of the last step.
assert.deepEqual(complaints.filter((text) => !text.includes("401 (Unauthorized)")), []);
await browser.close();
console.log("done");
