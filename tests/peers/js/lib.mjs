// What every script here needs: the servers under test from the environment, sentences printed
// as they come true, errors looked at as the SDKs give them, and waiting without guessing.
import assert from "node:assert/strict";

function required(name) {
    const value = process.env[name];
    if (!value) throw new Error(`${name} is not set; the Rust harness sets it`);
    return value;
}

export const env = {
    a: required("PEER_A"),
    b: required("PEER_B"),
    dirA: required("PEER_DIR_A"),
    email: required("PEER_EMAIL"),
    password: required("PEER_PASSWORD"),
    otherPassword: required("PEER_OTHER_PASSWORD"),
    // The real PocketBase runs the same scripts; where we are stricter on purpose, they ask this.
    isPocketBase: required("PEER_KIND") === "pocketbase",
};

export async function step(sentence, body) {
    try {
        await body();
    } catch (error) {
        console.error(`FAILED: ${sentence}`);
        if (error?.response) console.error(error.status, JSON.stringify(error.response));
        throw error;
    }
    console.log(`ok: ${sentence}`);
}

// The call must fail with this status; what the SDK threw is handed back for a closer look.
export async function fails(status, call) {
    let caught = null;
    try {
        await call();
    } catch (error) {
        caught = error;
    }
    assert.ok(caught, `the call went through although ${status} was expected`);
    assert.equal(caught.status, status, `${caught.status} ${JSON.stringify(caught.response)}`);
    assert.equal(caught.response.status, status);
    assert.equal(typeof caught.response.message, "string");
    assert.equal(caught.message, caught.response.message, "the SDK shows the server's message");
    assert.ok(caught.response.data && typeof caught.response.data === "object");
    return caught;
}

// A field error: where it sits in `data`, and its code.
export async function failsOn(field, code, call) {
    const error = await fails(400, call);
    const at = field.split(".").reduce((place, name) => place?.[name], error.response.data);
    assert.equal(at?.code, code, JSON.stringify(error.response));
    assert.ok(at.message.length > 0);
    return at;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Repeats until the condition holds; a refused connection counts as "not yet".
export async function eventually(sentence, condition, seconds = 60) {
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
        await sleep(20);
    }
    throw new Error(`never came true in ${seconds} s: ${sentence} (last: ${last})`);
}

export async function connect(Client, base, password = env.password) {
    const client = new Client(base);
    client.autoCancellation(false);
    await client.collection("_superusers").authWithPassword(env.email, password);
    return client;
}

export const keys = async (client) => (await client.backups.getFullList()).map((b) => b.key);

export async function download(client, key) {
    const token = await client.files.getToken();
    const response = await fetch(client.backups.getDownloadURL(token, key));
    assert.equal(response.status, 200, `download of ${key}`);
    return Buffer.from(await response.arrayBuffer());
}

// Restarting takes the settings with it: the application's name tells which data is served.
export async function restoredTo(client, appName) {
    await eventually(`the data with the name ${appName} is served`, async () => {
        const health = await client.health.check();
        return health.code === 200 && (await client.settings.getAll()).meta.appName === appName;
    });
}
