// The whole life of a backup as a client of PocketBase or BosBase lives it. The SDK is given, so
// that each one runs exactly the same sentences.
import assert from "node:assert/strict";
import { connect, download, env, eventually, fails, failsOn, keys, step } from "./lib.mjs";

export async function live(Client) {
    const anonymous = new Client(env.a);
    anonymous.autoCancellation(false);
    await strangers(anonymous);
    const pb = await entrance(Client);
    await creation(pb);
    await names(pb);
    await downloads(pb);
    await uploads(pb);
    await deletion(pb);
    return pb;
}

async function strangers(anonymous) {
    await step("anybody may ask whether the server is healthy", async () => {
        const health = await anonymous.health.check();
        assert.equal(health.code, 200);
        assert.equal(health.message, "API is healthy.");
        assert.deepEqual(health.data, {});
    });
    await step("nobody gets in without a token", async () => {
        const calls = [
            () => anonymous.backups.getFullList(),
            () => anonymous.backups.create("stranger.zip"),
            () => anonymous.backups.upload({ file: new Blob(["x"]) }),
            () => anonymous.backups.delete("stranger.zip"),
            () => anonymous.backups.restore("stranger.zip"),
            () => anonymous.files.getToken(),
            () => anonymous.settings.getAll(),
            () => anonymous.settings.update({ meta: { appName: "stranger" } }),
            () => anonymous.settings.testS3("backups"),
            () => anonymous.crons.getFullList(),
            () => anonymous.crons.run("__pbLogsCleanup__"),
            () => anonymous.collection("_superusers").authRefresh(),
        ];
        for (const call of calls) {
            const error = await fails(401, call);
            assert.match(error.message, /requires valid record authorization token/);
            assert.deepEqual(error.response.data, {});
        }
    });
    await step("a token that nobody signed is no token", async () => {
        const claims = { exp: 4102444800, id: "a", type: "auth", collectionId: "pbc_3142635823" };
        const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
        anonymous.authStore.save(`${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}.AAAA`);
        await fails(401, () => anonymous.backups.getFullList());
        anonymous.authStore.clear();
    });
}

async function entrance(Client) {
    await step("a wrong password is refused without a hint", async () => {
        const error = await fails(400, () => connect(Client, env.a, "not the password"));
        assert.equal(error.message, "Failed to authenticate.");
        assert.deepEqual(error.response.data, {});
        await failsOn("password", "validation_required", () => connect(Client, env.a, ""));
    });
    const pb = await connect(Client, env.a);
    await step("a superuser is let in and is known to be one", async () => {
        assert.ok(pb.authStore.isValid);
        assert.ok(pb.authStore.isSuperuser);
        assert.equal(pb.authStore.record.email, env.email);
        assert.equal(pb.authStore.record.collectionName, "_superusers");
        assert.equal((await pb.health.check()).data.canBackup, true);
        const methods = await pb.collection("_superusers").listAuthMethods();
        assert.equal(methods.password.enabled, true);
    });
    await step("the token can be renewed", async () => {
        const renewed = await pb.collection("_superusers").authRefresh();
        assert.equal(renewed.record.email, env.email);
        assert.ok(pb.authStore.isValid);
        assert.deepEqual(await pb.backups.getFullList(), []);
    });
    return pb;
}

async function creation(pb) {
    await step("a backup gets the name that it was given", async () => {
        assert.equal(await pb.backups.create("my_backup_2024.zip"), true);
        const [backup, ...more] = await pb.backups.getFullList();
        assert.equal(more.length, 0);
        assert.equal(backup.key, "my_backup_2024.zip");
        assert.ok(Number.isInteger(backup.size) && backup.size > 1000);
        const age = Date.now() - new Date(backup.modified).getTime();
        assert.ok(Math.abs(age) < 300_000, `made ${age} ms ago`);
        assert.match(backup.modified, /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}Z$/);
    });
    await step("a backup without a name gets one", async () => {
        assert.equal(await pb.backups.create(""), true);
        const fresh = (await keys(pb)).filter((key) => key !== "my_backup_2024.zip");
        assert.equal(fresh.length, 1);
        assert.match(fresh[0], /^pb_backup_(?:[a-z0-9_]+_)?\d{14}\.zip$/);
    });
    await step("the newest backup is found by its date", async () => {
        const list = await pb.backups.getFullList();
        list.sort((a, b) => new Date(b.modified) - new Date(a.modified));
        assert.match(list[0].key, /^pb_backup_/);
        assert.deepEqual([...(await keys(pb))].sort(), await keys(pb));
    });
}

async function names(pb) {
    await step("a name is taken only once", async () => {
        const taken = "validation_backup_name_exists";
        const at = await failsOn("name", taken, () => pb.backups.create("my_backup_2024.zip"));
        assert.match(at.message, /already exists/);
    });
    await step("names that are no names are refused", async () => {
        const bad = ["my-backup", "Upper.zip", "a b.zip", "../x.zip", "x.ZIP", "x.zip\n", ".zip",
            "weekly_2024_W3.zip", "backup_2024-03-04T12-00-00.zip", "@auto_x.zip", "ä.zip"];
        for (const name of bad) {
            await failsOn("name", "validation_match_invalid", () => pb.backups.create(name));
        }
        const long = `${"a".repeat(147)}.zip`;
        const code = "validation_length_out_of_range";
        const at = await failsOn("name", code, () => pb.backups.create(long));
        assert.deepEqual(at.params, { max: 150, min: 1 });
        assert.equal((await keys(pb)).length, 2);
    });
    await step("the names of the documents are names", async () => {
        const good = ["daily_2024-03-04.zip", "monthly_2024_03.zip", `${"a".repeat(146)}.zip`];
        for (const name of good) {
            assert.equal(await pb.backups.create(name), true);
            assert.ok((await keys(pb)).includes(name));
            assert.equal(await pb.backups.delete(name), true);
        }
    });
}

async function downloads(pb) {
    const key = "my_backup_2024.zip";
    const token = await pb.files.getToken();
    const url = pb.backups.getDownloadURL(token, key);
    const { size } = (await pb.backups.getFullList()).find((b) => b.key === key);
    await step("the link alone is enough to download", async () => {
        assert.equal(url, `${env.a}/api/backups/${key}?token=${token}`);
        const response = await fetch(url, { headers: { Origin: "https://elsewhere.example" } });
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("content-length"), String(size));
        assert.equal(response.headers.get("content-type"), "application/zip");
        assert.equal(response.headers.get("accept-ranges"), "bytes");
        assert.equal(response.headers.get("access-control-allow-origin"), "*");
        assert.match(response.headers.get("content-disposition"), /^attachment; filename=/);
        assert.ok(response.headers.get("content-disposition").includes(key));
        const cache = response.headers.get("cache-control");
        if (!env.isPocketBase) assert.equal(cache, "no-store", "a backup holds every secret");
        const bytes = Buffer.from(await response.arrayBuffer());
        assert.equal(bytes.length, size);
        assert.equal(bytes.subarray(0, 4).toString("latin1"), "PK\u0003\u0004");
    });
    await step("a download can be resumed", async () => {
        const whole = await download(pb, key);
        const half = Math.floor(size / 2);
        const parts = [];
        for (const range of [`bytes=0-${half - 1}`, `bytes=${half}-`]) {
            const response = await fetch(url, { headers: { Range: range } });
            assert.equal(response.status, 206);
            parts.push(Buffer.from(await response.arrayBuffer()));
            const at = parts.length === 1 ? `0-${half - 1}` : `${half}-${size - 1}`;
            assert.equal(response.headers.get("content-range"), `bytes ${at}/${size}`);
        }
        assert.ok(Buffer.concat(parts).equals(whole));
        const tail = await fetch(url, { headers: { Range: "bytes=-22" } });
        assert.ok(Buffer.from(await tail.arrayBuffer()).equals(whole.subarray(-22)));
        const beyond = await fetch(url, { headers: { Range: `bytes=${size}-` } });
        assert.equal(beyond.status, 416);
        assert.equal(beyond.headers.get("content-range"), `bytes */${size}`);
    });
    await step("a download can be asked about", async () => {
        const head = await fetch(url, { method: "HEAD" });
        assert.equal(head.status, 200);
        assert.equal(head.headers.get("content-length"), String(size));
        const since = { "If-Modified-Since": head.headers.get("last-modified") };
        assert.equal((await fetch(url, { headers: since })).status, 304);
    });
    await step("without a file token there is no download", async () => {
        const plain = `${env.a}/api/backups/${key}`;
        const headers = { Authorization: pb.authStore.token };
        for (const refused of [
            await fetch(plain),
            await fetch(plain, { headers }),
            await fetch(pb.backups.getDownloadURL("nonsense", key)),
            await fetch(pb.backups.getDownloadURL(pb.authStore.token, key)),
            await fetch(pb.backups.getDownloadURL("", "missing.zip")),
        ]) {
            assert.equal(refused.status, 403);
            const body = await refused.json();
            assert.deepEqual(Object.keys(body).sort(), ["data", "message", "status"]);
            assert.match(body.message, /^Insufficient permissions/);
        }
        const missing = await fetch(pb.backups.getDownloadURL(token, "missing.zip"));
        assert.equal(missing.status, 404);
        assert.equal((await missing.json()).status, 404);
    });
}

async function uploads(pb) {
    const bytes = await download(pb, "my_backup_2024.zip");
    const type = { type: "application/zip" };
    await step("a File, a Blob and a form are uploaded", async () => {
        const form = new FormData();
        const octets = { type: "application/octet-stream" };
        form.append("file", new File([bytes], "My Form (1).zip", octets));
        form.append("unknown", "ignored");
        assert.equal(await pb.backups.upload({ file: new File([bytes], "copy.zip", type) }), true);
        assert.equal(await pb.backups.upload({ file: new Blob([bytes], type) }), true);
        assert.equal(await pb.backups.upload(form), true);
        for (const key of ["copy.zip", "blob", "My Form (1).zip"]) {
            assert.ok((await download(pb, key)).equals(bytes), `${key} came back changed`);
        }
    });
    await step("an upload never replaces a backup", async () => {
        const again = { file: new File([bytes], "copy.zip", type) };
        await failsOn("file", "validation_backup_name_exists", () => pb.backups.upload(again));
    });
    await step("what is not a zip is refused, whatever it is called", async () => {
        const before = await keys(pb);
        const text = { file: new File(["just words"], "words.zip", type) };
        await failsOn("file", "validation_invalid_mime_type", () => pb.backups.upload(text));
        const none = new FormData();
        none.append("other", "1");
        await failsOn("file", "validation_required", () => pb.backups.upload(none));
        if (!env.isPocketBase) {
            // PocketBase looks at four bytes only, keeps this, and fails at the restore.
            const cut = { file: new File([bytes.subarray(0, 60)], "cut.zip", type) };
            const error = await fails(400, () => pb.backups.upload(cut));
            assert.ok(error.response.data.file?.code, JSON.stringify(error.response));
        }
        assert.deepEqual(await keys(pb), before);
    });
    await step("a name with a query or a folder never leaves the folder", async () => {
        await pb.backups.upload({ file: new File([bytes], "../../out.zip", type) });
        assert.ok((await keys(pb)).includes("out.zip"));
    });
}

async function deletion(pb) {
    await step("a deleted backup is gone", async () => {
        for (const key of await keys(pb)) assert.equal(await pb.backups.delete(key), true);
        assert.deepEqual(await pb.backups.getFullList(), []);
    });
    await step("what is gone cannot be deleted again", async () => {
        const error = await fails(400, () => pb.backups.delete("copy.zip"));
        assert.match(error.message, /^Invalid or already deleted backup file\./);
        if (!env.isPocketBase) {
            assert.ok(!JSON.stringify(error.response).includes(env.dirA), "tells our disk's paths");
        }
    });
    await step("nothing is left of all that", async () => {
        await eventually("the server is idle", async () => (await pb.health.check()).data.canBackup);
        assert.deepEqual(await keys(pb), []);
    });
}
