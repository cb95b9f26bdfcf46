// PocketBase's own admin page, unchanged, on top of our engine: Settings, Backups.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { api, env, eventually, open, shot, step } from "./browser.mjs";

const { browser, page, complaints } = await open();
const keys = async () => (await api("GET", "/api/backups")).map((backup) => backup.key);
const appName = async () => (await api("GET", "/api/settings")).meta.appName;
const rename = (name) => api("PATCH", "/api/settings", { meta: { appName: name } });

const row = (key) =>
    page.locator(".backups-list .list-item").filter({ has: page.getByTitle(key, { exact: true }) });
const act = async (key, action) => {
    await row(key).hover();
    await row(key).getByRole("button", { name: action }).click();
};
let refusals = 0;
const createButton = page.getByRole("button", { name: "Initialize new backup" });

async function create(name) {
    await createButton.click();
    const dialog = page.locator(".backup-create-modal");
    await dialog.getByLabel("Backup name").fill(name);
    await dialog.getByRole("button", { name: "Start backup" }).click();
    await row(name).waitFor();
    await dialog.waitFor({ state: "detached" });
}

await step("logs in", async () => {
    await rename("before");
    await page.goto(`${env.base}${env.page}#/login`);
    await page.locator("#login_identity").fill(env.email);
    await page.locator("#login_pass").fill(env.password);
    await page.getByRole("button", { name: "Login" }).click();
    await page.waitForURL((url) => !url.hash.startsWith("#/login"));
});

await step("lists no backups", async () => {
    await page.goto(`${env.base}${env.page}#/settings/backups`);
    await page.getByText("No backups found.").waitFor();
});

await step("creates two", async () => {
    await create("page_one.zip");
    await create("page_two.zip");
    assert.deepEqual((await keys()).sort(), ["page_one.zip", "page_two.zip"]);
    await shot(page, "pocketbase-backups");
});

const kept = path.join(env.shots, "downloaded.zip");

await step("downloads one whole", async () => {
    const download = page.waitForEvent("download");
    await act("page_one.zip", "Download");
    const file = await download;
    assert.equal(file.suggestedFilename(), "page_one.zip");
    await file.saveAs(kept);
    const { size } = (await api("GET", "/api/backups")).find((b) => b.key === "page_one.zip");
    assert.equal(fs.statSync(kept).size, size);
    assert.equal(fs.readFileSync(kept).subarray(0, 4).toString("latin1"), "PK\x03\x04");
});

await step("deletes one", async () => {
    await act("page_two.zip", "Delete");
    await page.getByRole("button", { name: "Yes" }).click();
    await row("page_two.zip").waitFor({ state: "detached" });
    assert.deepEqual(await keys(), ["page_one.zip"]);
});

await step("uploads what was downloaded", async () => {
    await page.locator("input[type=file][accept='application/zip']").setInputFiles({
        name: "page_up.zip",
        mimeType: "application/zip",
        buffer: fs.readFileSync(kept),
    });
    await page.getByRole("button", { name: "Yes" }).click();
    await row("page_up.zip").waitFor();
    assert.deepEqual((await keys()).sort(), ["page_one.zip", "page_up.zip"]);
});

await step("shows our refusal of what is no archive", async () => {
    await page.locator("input[type=file][accept='application/zip']").setInputFiles({
        name: "page_bad.zip",
        mimeType: "application/zip",
        buffer: Buffer.from("no archive at all"),
    });
    await page.getByRole("button", { name: "Yes" }).click();
    await page.locator(".toast").filter({ hasNotText: "Success" }).first().waitFor();
    assert.deepEqual((await keys()).sort(), ["page_one.zip", "page_up.zip"]);
    refusals = 1;
});

await step("sets and shows the schedule", async () => {
    await page.getByRole("button", { name: "Backup options" }).click();
    await page.getByLabel("Enable auto backups").check();
    await page.locator("[id='backups.cron']").fill("7 3 * * *");
    await page.locator("[id='backups.cronMaxKeep']").fill("5");
    await shot(page, "pocketbase-schedule");
    await page.getByRole("button", { name: "Save changes" }).click();
    await eventually("the schedule is kept", async () => {
        const { backups } = await api("GET", "/api/settings");
        return backups.cron === "7 3 * * *" && backups.cronMaxKeep === 5;
    });
    await page.reload();
    await page.getByRole("button", { name: "Backup options" }).click();
    await eventually("the page shows it again", async () => {
        return (await page.locator("[id='backups.cron']").inputValue()) === "7 3 * * *";
    });
    const jobs = (await api("GET", "/api/crons")).filter((job) => job.id === "__pbAutoBackup__");
    assert.deepEqual(jobs, [{ id: "__pbAutoBackup__", expression: "7 3 * * *" }]);
});

await step("restores, and is there again after the restart", async () => {
    await rename("after");
    await act("page_up.zip", "Restore");
    const dialog = page.locator(".backup-restore-modal");
    const submit = dialog.getByRole("button", { name: "Restore backup" });
    assert.equal(await submit.isDisabled(), true);
    await dialog.getByLabel("Backup name").fill("page_up.zip");
    await shot(page, "pocketbase-restore");
    const reloaded = page.waitForEvent("load");
    await submit.click();
    // The page loads itself again two seconds after the answer, whatever goes on behind it.
    await reloaded;
    await row("page_up.zip").waitFor();
    await eventually("the old data is served", async () => (await appName()) === "before");
    await createButton.waitFor();
    await create("page_later.zip");
    assert.deepEqual(
        (await keys()).sort(),
        ["page_later.zip", "page_one.zip", "page_up.zip"],
    );
    const { backups } = await api("GET", "/api/settings");
    assert.equal(backups.cron, "", "the schedule is that of the moment of the backup");
    await shot(page, "pocketbase-restored");
});

// PocketBase's own: the pattern of its field for the name, and the refusal that was meant above.
const others = complaints.filter((text) => !text.includes("Pattern attribute value"));
assert.deepEqual(others.filter((text) => !text.includes("400 (Bad Request)")), []);
assert.equal(others.length, refusals);
await browser.close();
console.log("done");
