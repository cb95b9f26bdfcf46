// The helpers that BosBase's documents tell their readers to write around the SDK: a manager, a
// rotation, a migration, a check. Written here as such a reader would, and held to what they promise.
import assert from "node:assert/strict";
import BosBase from "bosbase";
import { connect, env, keys, sleep, step } from "./lib.mjs";

class Manager {
    constructor(client) {
        this.client = client;
    }

    async newestFirst() {
        const list = await this.client.backups.getFullList();
        return list.sort((a, b) => new Date(b.modified) - new Date(a.modified));
    }

    // The documents' own stamp has an upper-case T, which no PocketBase accepts.
    async create(name) {
        const stamp = new Date().toISOString().slice(0, 19).replace(/[:.]/g, "-").toLowerCase();
        const chosen = name ?? `backup_${stamp}.zip`;
        await this.client.backups.create(chosen);
        return chosen;
    }

    async deleteOlderThan(days) {
        const limit = Date.now() - days * 86_400_000;
        const old = (await this.newestFirst()).filter((b) => new Date(b.modified) < limit);
        for (const { key } of old) await this.client.backups.delete(key);
        return old.length;
    }

    async keepNewest(count) {
        const surplus = (await this.newestFirst()).slice(count);
        for (const { key } of surplus) await this.client.backups.delete(key);
        return surplus.map(({ key }) => key);
    }
}

class Migrator {
    constructor(from, to) {
        this.from = from;
        this.to = to;
    }

    async migrate(key) {
        const token = await this.from.files.getToken();
        const response = await fetch(this.from.backups.getDownloadURL(token, key));
        const blob = await response.blob();
        const file = new File([blob], key, { type: "application/zip" });
        await this.to.backups.upload({ file });
    }

    async migrateAll() {
        const failed = [];
        for (const { key } of await this.from.backups.getFullList()) {
            await this.migrate(key).catch((error) => failed.push([key, error.status]));
        }
        return failed;
    }
}

async function check(client) {
    const list = await client.backups.getFullList();
    const week = Date.now() - 7 * 86_400_000;
    return {
        count: list.length,
        recent: list.filter((b) => new Date(b.modified) > week).length,
        bytes: list.reduce((sum, b) => sum + b.size, 0),
        largest: [...list].sort((a, b) => b.size - a.size)[0]?.key,
        above100MiB: list.filter((b) => b.size > 100 * 1024 * 1024).length,
    };
}

const pb = await connect(BosBase, env.a);
const other = await connect(BosBase, env.b, env.otherPassword);
const manager = new Manager(pb);

await step("the check sees that there is no backup", async () => {
    assert.deepEqual(await check(pb),
        { count: 0, recent: 0, bytes: 0, largest: undefined, above100MiB: 0 });
});
await step("the manager creates with a stamp and with a name", async () => {
    assert.match(await manager.create(), /^backup_\d{4}-\d\d-\d\dt\d\d-\d\d-\d\d\.zip$/);
    assert.equal(await manager.create("weekly_backup.zip"), "weekly_backup.zip");
    const [newest] = await manager.newestFirst();
    assert.equal(newest.key, "weekly_backup.zip");
});
await step("a rotation keeps the newest seven", async () => {
    for (let day = 1; day <= 8; day += 1) {
        await sleep(20); // Dates have milliseconds.
        await manager.create(`daily_2026-11-0${day}.zip`);
    }
    const gone = await manager.keepNewest(7);
    assert.equal(gone.length, 3);
    assert.ok(gone.includes("daily_2026-11-01.zip") && gone.includes("weekly_backup.zip"));
    assert.deepEqual(await keys(pb), [2, 3, 4, 5, 6, 7, 8].map((n) => `daily_2026-11-0${n}.zip`));
});
await step("nothing is older than thirty days, everything than none", async () => {
    assert.equal(await manager.deleteOlderThan(30), 0);
    await manager.keepNewest(3);
    const report = await check(pb);
    assert.equal(report.count, 3);
    assert.equal(report.recent, 3);
    assert.ok(report.bytes > 3000 && report.above100MiB === 0 && report.largest);
});
await step("a migration takes all, and a second one is told what is there", async () => {
    const migrator = new Migrator(pb, other);
    assert.deepEqual(await migrator.migrateAll(), []);
    assert.deepEqual(await keys(other), await keys(pb));
    const again = await migrator.migrateAll();
    assert.deepEqual(again, (await keys(pb)).map((key) => [key, 400]));
    const sizes = async (client) => (await client.backups.getFullList()).map((b) => b.size);
    assert.deepEqual(await sizes(other), await sizes(pb));
});
await step("a clean-up of everything leaves nothing", async () => {
    await sleep(20);
    assert.equal(await manager.deleteOlderThan(0), 3);
    assert.deepEqual(await keys(pb), []);
});
console.log("done");
