// What keeps a vault in order over the years: one operation at a time, settings, the schedule,
// the way back to an older state, and the way to another server.
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
    connect, download, env, eventually, fails, failsOn, keys, restoredTo, sleep, step,
} from "./lib.mjs";

export async function keepUp(Client, pb) {
    await oneAtATime(pb);
    await settings(pb);
    await schedule(pb);
    await wayBack(pb);
    await wayOver(Client, pb);
}

async function oneAtATime(pb) {
    const heavy = join(env.dirA, "storage", "heavy.bin");
    mkdirSync(join(env.dirA, "storage"), { recursive: true });
    writeFileSync(heavy, randomFillSync(Buffer.alloc(96 << 20)));
    await step("of several creations at once one runs and the others are told to wait", async () => {
        const names = [1, 2, 3, 4, 5, 6].map((n) => `race_${n}.zip`);
        const ends = await Promise.allSettled(names.map((name) => pb.backups.create(name)));
        const lost = ends.filter((end) => end.status === "rejected").map((end) => end.reason);
        assert.ok(lost.length >= 1 && lost.length < names.length, `${lost.length} were refused`);
        for (const error of lost) {
            assert.equal(error.status, 400);
            assert.match(error.message, /another backup\/restore process/);
        }
        const kept = await keys(pb);
        assert.equal(kept.length, names.length - lost.length);
        for (const key of kept) await pb.backups.delete(key);
    });
    await step("a backup that is being made is not listed and cannot be deleted", async () => {
        const making = pb.backups.create("slow.zip");
        await eventually("the server is busy", async () => {
            return (await pb.health.check()).data.canBackup === false;
        }, 10);
        const error = await fails(400, () => pb.backups.delete("slow.zip"));
        assert.match(error.message, /currently being used and cannot be deleted/);
        if (!env.isPocketBase) assert.deepEqual(await keys(pb), []);
        assert.equal(await making, true);
        assert.deepEqual(await keys(pb), ["slow.zip"]);
        await pb.backups.delete("slow.zip");
    });
    rmSync(heavy);
}

async function settings(pb) {
    await step("settings are read and changed in part", async () => {
        const before = await pb.settings.getAll();
        for (const name of ["meta", "backups", "s3", "smtp", "logs", "batch", "rateLimits"]) {
            assert.ok(name in before, `settings without ${name}`);
        }
        const after = await pb.settings.update({ meta: { appName: "Péer Test!" } });
        assert.equal(after.meta.appName, "Péer Test!");
        assert.equal(after.meta.appURL, before.meta.appURL);
        assert.deepEqual(after.backups, before.backups);
        assert.equal((await pb.settings.getAll()).meta.appName, "Péer Test!");
        await pb.backups.create("");
        const [key] = await keys(pb);
        assert.match(key, /^pb_backup_p_?er_test_\d{14}\.zip$/);
        await pb.backups.delete(key);
    });
    await step("wrong settings are refused where they are wrong", async () => {
        const bad = [
            ["backups.cron", "validation_invalid_cron", { cron: "61 * * * *" }],
            ["backups.cron", "validation_invalid_cron", { cron: "every day" }],
            ["backups.cronMaxKeep", "validation_required", { cron: "@daily", cronMaxKeep: 0 }],
            ["backups.s3.bucket", "validation_required", { s3: { enabled: true } }],
        ];
        const before = await pb.settings.getAll();
        for (const [field, code, backups] of bad) {
            await failsOn(field, code, () => pb.settings.update({ backups }));
        }
        assert.deepEqual(await pb.settings.getAll(), before);
    });
    await step("a secret goes in and never comes out", async () => {
        const secret = "a-secret-of-the-peers-test";
        const answer = await pb.settings.update({ backups: { s3: { secret } } });
        assert.ok(!JSON.stringify(answer).includes(secret));
        assert.ok(!JSON.stringify(await pb.settings.getAll()).includes(secret));
        await pb.settings.update({ backups: { s3: { secret: "" } } });
    });
    await step("the S3 test tells the truth", async () => {
        const error = await fails(400, () => pb.settings.testS3("backups"));
        assert.match(error.message, /^Failed to test the S3 filesystem\./);
        await failsOn("filesystem", "validation_in_invalid", () => pb.settings.testS3("moon"));
    });
}

async function schedule(pb) {
    const job = "__pbAutoBackup__";
    const jobs = async () => (await pb.crons.getFullList()).map((cron) => cron.id);
    await step("without a schedule there is no automatic backup to run", async () => {
        assert.ok(!(await jobs()).includes(job));
        await fails(404, () => pb.crons.run(job));
        await fails(404, () => pb.crons.run("missing"));
    });
    await step("a schedule makes one, and only the newest are kept", async () => {
        await pb.backups.create("by_hand.zip");
        await pb.settings.update({ backups: { cron: "0 0 1 1 *", cronMaxKeep: 2 } });
        const cron = (await pb.crons.getFullList()).find(({ id }) => id === job);
        assert.equal(cron?.expression, "0 0 1 1 *");
        const seen = new Set();
        const automatic = async () => (await keys(pb)).filter((key) => key.startsWith("@auto_"));
        for (let round = 1; round <= 3; round += 1) {
            assert.equal(await pb.crons.run(job), true);
            await eventually(`automatic backup ${round} is there`, async () => {
                for (const key of await automatic()) seen.add(key);
                return seen.size === round && (await pb.health.check()).data.canBackup;
            });
            await sleep(1100); // Generated names differ by the second.
        }
        await eventually("the oldest is gone", async () => (await automatic()).length === 2);
        const newest = [...seen].sort().slice(1);
        assert.deepEqual((await automatic()).sort(), newest);
        assert.match(newest[0], /^@auto_pb_backup_p_?er_test_\d{14}\.zip$/);
        assert.ok((await download(pb, newest[0])).length > 1000, "an @ in a key is no trouble");
    });
    await step("the schedule ends with its setting", async () => {
        await pb.settings.update({ backups: { cron: "", cronMaxKeep: 3 } });
        assert.ok(!(await jobs()).includes(job));
        assert.ok((await keys(pb)).includes("by_hand.zip"), "made by hand, never pruned");
        for (const key of await keys(pb)) await pb.backups.delete(key);
    });
}

async function wayBack(pb) {
    const kept = join(env.dirA, "storage", "peer", "kept.txt");
    const later = join(env.dirA, "storage", "peer", "later.txt");
    await step("a restore of nothing is refused", async () => {
        const error = await fails(400, () => pb.backups.restore("missing.zip"));
        assert.equal(error.message, "Missing or invalid backup file.");
    });
    await step("a restore brings the whole older state back", async () => {
        mkdirSync(join(env.dirA, "storage", "peer"), { recursive: true });
        writeFileSync(kept, "before");
        await pb.settings.update({ meta: { appName: "Before" } });
        await pb.backups.create("point.zip");
        writeFileSync(kept, "after");
        writeFileSync(later, "made after the backup");
        await pb.settings.update({ meta: { appName: "After" } });
        assert.equal(await pb.backups.restore("point.zip"), true);
        await restoredTo(pb, "Before");
        assert.equal(readFileSync(kept, "utf8"), "before");
        assert.ok(!existsSync(later), "a file that is not in the backup survived");
    });
    await step("after a restore the same client goes on", async () => {
        assert.deepEqual(await keys(pb), ["point.zip"], "backups outlive a restore");
        assert.equal(await pb.backups.create("afterwards.zip"), true);
        assert.deepEqual(await keys(pb), ["afterwards.zip", "point.zip"]);
    });
}

async function wayOver(Client, pb) {
    const other = await connect(Client, env.b, env.otherPassword);
    await step("a backup moves to another server under the same key", async () => {
        const bytes = await download(pb, "point.zip");
        const file = new File([bytes], "point.zip", { type: "application/zip" });
        assert.equal(await other.backups.upload({ file }), true);
        assert.ok((await download(other, "point.zip")).equals(bytes));
    });
    await step("restored there, it brings its superusers along", async () => {
        assert.equal(await other.backups.restore("point.zip"), true);
        const moved = await eventually("the other server knows the new password", () => {
            return connect(Client, env.b, env.password);
        });
        assert.equal((await moved.settings.getAll()).meta.appName, "Before");
        await fails(400, () => connect(Client, env.b, env.otherPassword));
        await fails(401, () => other.backups.getFullList());
        const stored = (await moved.backups.getFullList()).map(({ key }) => key);
        assert.deepEqual(stored, ["point.zip"]);
    });
}
