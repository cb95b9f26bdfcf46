"""The whole life of a backup, as the Python SDKs live it.

The SDKs name things differently, so each script brings a small `Sdk` that translates; the sentences
are the same for both. Python can also look inside: archives are opened with `zipfile`, and the
databases in them with SQLite.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import os
import pathlib
import re
import sqlite3
import tempfile
import time
import typing
import urllib.error
import urllib.request
import zipfile

A = os.environ["PEER_A"]
B = os.environ["PEER_B"]
DIR_A = pathlib.Path(os.environ["PEER_DIR_A"])
EMAIL = os.environ["PEER_EMAIL"]
PASSWORD = os.environ["PEER_PASSWORD"]
OTHER_PASSWORD = os.environ["PEER_OTHER_PASSWORD"]
IS_POCKETBASE = os.environ["PEER_KIND"] == "pocketbase"


@dataclasses.dataclass
class Item:
    """A backup as it is listed."""

    key: str
    size: int
    modified: datetime.datetime


class Sdk(typing.Protocol):
    """What a client can do; `error` is the class that its calls raise."""

    error: type[Exception]

    def login(self, base: str, password: str) -> typing.Any: ...
    def stranger(self, base: str) -> typing.Any: ...
    def list(self, client: typing.Any) -> list[Item]: ...
    def upload(self, client: typing.Any, name: str, data: bytes) -> None: ...
    def url(self, client: typing.Any, key: str, token: str) -> str: ...
    def settings(self, client: typing.Any) -> dict: ...
    def update(self, client: typing.Any, body: dict) -> dict: ...
    def job_ids(self, client: typing.Any) -> dict[str, str]: ...
    def health(self, client: typing.Any) -> tuple[int, str, dict]: ...
    def details(self, error: Exception) -> tuple[int, dict]: ...


def step(sentence: str) -> None:
    print(f"-- {sentence}", flush=True)


def fails(sdk: Sdk, status: int, call: typing.Callable[[], object]) -> dict:
    try:
        call()
    except sdk.error as error:
        got, body = sdk.details(error)
        assert got == status, f"{got} instead of {status}: {body}"
        assert body["status"] == status and isinstance(body["message"], str), body
        assert isinstance(body["data"], dict), body
        return body
    raise AssertionError(f"the call went through although {status} was expected")


def fails_on(sdk: Sdk, field: str, code: str, call: typing.Callable[[], object]) -> dict:
    place = fails(sdk, 400, call)["data"]
    for name in field.split("."):
        assert name in place, place
        place = place[name]
    assert place["code"] == code and place["message"], place
    return place


def eventually(sentence: str, condition: typing.Callable[[], object], seconds: float = 60) -> object:
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except AssertionError:
            raise
        except Exception as error:  # A server that restarts refuses; any client error means "not yet".
            last = error
        time.sleep(0.05)
    raise AssertionError(f"never came true in {seconds} s: {sentence} (last: {last})")


def fetch(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    # One of the SDKs builds links with raw spaces; a browser would encode them like this.
    request = urllib.request.Request(url.replace(" ", "%20"), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def download(sdk: Sdk, client: typing.Any, key: str) -> bytes:
    status, _, data = fetch(sdk.url(client, key, client.files.get_token()))
    assert status == 200, f"download of {key}: {status}"
    return data


def keys(sdk: Sdk, client: typing.Any) -> list[str]:
    return [item.key for item in sdk.list(client)]


def app_name(sdk: Sdk, client: typing.Any) -> str:
    return sdk.settings(client)["meta"]["appName"]


def inspect(data: bytes) -> zipfile.ZipFile:
    """Reads every entry (each CRC is checked), and has SQLite check both databases."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None
    names = archive.namelist()
    assert len(set(names)) == len(names), names
    for name in names:
        first = name.split("/")[0]
        assert first not in {"", "..", "backups", ".pocketvault", ".pb_temp_to_delete"}, name
    for name in ("data.db", "auxiliary.db"):
        with tempfile.TemporaryDirectory() as folder:
            archive.extract(name, folder)
            with sqlite3.connect(pathlib.Path(folder, name)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] > 0
            database.close()
    return archive


def live(sdk: Sdk) -> None:
    strangers(sdk)
    client = entrance(sdk)
    creation(sdk, client)
    archives(sdk, client)
    uploads(sdk, client)
    settings(sdk, client)
    schedule(sdk, client)
    way_back(sdk, client)
    way_over(sdk, client)
    print("done", flush=True)


def strangers(sdk: Sdk) -> None:
    stranger = sdk.stranger(A)
    step("anybody may ask whether the server is healthy")
    assert sdk.health(stranger) == (200, "API is healthy.", {})
    step("nobody gets in without a token")
    for call in (
        lambda: sdk.list(stranger),
        lambda: stranger.backups.create("stranger.zip"),
        lambda: sdk.upload(stranger, "stranger.zip", b"PK"),
        lambda: stranger.backups.delete("stranger.zip"),
        lambda: stranger.backups.restore("stranger.zip"),
        lambda: stranger.files.get_token(),
        lambda: sdk.settings(stranger),
        lambda: sdk.update(stranger, {"meta": {"appName": "stranger"}}),
        lambda: stranger.crons.get_full_list(),
        lambda: stranger.crons.run("__pbLogsCleanup__"),
    ):
        assert "requires valid record authorization token" in fails(sdk, 401, call)["message"]


def entrance(sdk: Sdk) -> typing.Any:
    step("a wrong password is refused without a hint")
    body = fails(sdk, 400, lambda: sdk.login(A, "not the password"))
    assert body == {"data": {}, "message": "Failed to authenticate.", "status": 400}, body
    fails_on(sdk, "password", "validation_required", lambda: sdk.login(A, ""))
    step("a superuser is let in")
    client = sdk.login(A, PASSWORD)
    assert sdk.health(client)[2]["canBackup"] is True
    assert sdk.list(client) == []
    return client


def creation(sdk: Sdk, client: typing.Any) -> None:
    step("a backup gets the name that it was given, another one is invented")
    client.backups.create("by_name.zip")
    (item,) = sdk.list(client)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert item.key == "by_name.zip" and item.size > 1000
    assert abs((now - item.modified).total_seconds()) < 300, item.modified
    client.backups.create("")
    (fresh,) = [key for key in keys(sdk, client) if key != "by_name.zip"]
    assert re.fullmatch(r"pb_backup_([a-z0-9_]+_)?\d{14}\.zip", fresh), fresh
    client.backups.delete(fresh)
    step("a name is taken only once, and must be a name")
    create = client.backups.create
    taken = "validation_backup_name_exists"
    assert "already exists" in fails_on(sdk, "name", taken, lambda: create("by_name.zip"))["message"]
    for bad in ("my-backup", "Upper.zip", "a b.zip", "../x.zip", "x.zip\n"):
        fails_on(sdk, "name", "validation_match_invalid", lambda: create(bad))
    long = "a" * 147 + ".zip"
    at = fails_on(sdk, "name", "validation_length_out_of_range", lambda: create(long))
    assert at["params"] == {"max": 150, "min": 1}
    assert keys(sdk, client) == ["by_name.zip"]


def archives(sdk: Sdk, client: typing.Any) -> None:
    step("an archive is a sound zip with sound databases, and with the files")
    folder = DIR_A / "storage" / "peer" / "Ünïcode folder"
    folder.mkdir(parents=True)
    (folder / "a file.bin").write_bytes(bytes(range(256)) * 300)
    (folder / "empty.txt").write_bytes(b"")
    client.backups.create("with_files.zip")
    archive = inspect(download(sdk, client, "with_files.zip"))
    entry = "storage/peer/Ünïcode folder/"
    assert archive.read(entry + "a file.bin") == bytes(range(256)) * 300
    assert archive.read(entry + "empty.txt") == b""
    assert not any("by_name" in name for name in archive.namelist()), "a backup of backups"
    step("the link alone is enough, and it can be resumed")
    token = client.files.get_token()
    url = sdk.url(client, "with_files.zip", token)
    assert url == f"{A}/api/backups/with_files.zip?token={token}"
    status, headers, whole = fetch(url)
    assert status == 200 and headers["content-length"] == str(len(whole))
    status, headers, part = fetch(url, Range="bytes=10-")
    assert status == 206 and part == whole[10:]
    assert headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
    step("without a file token there is no download")
    assert fetch(url.split("?")[0])[0] == 403
    assert fetch(url.split("?")[0], Authorization=client.auth_store.token)[0] == 403
    assert fetch(sdk.url(client, "missing.zip", token))[0] == 404


def uploads(sdk: Sdk, client: typing.Any) -> None:
    data = download(sdk, client, "with_files.zip")
    step("an upload comes back as it went in, under its own name")
    for name in ("copy.zip", "Copy Of (1) @home.zip"):
        sdk.upload(client, name, data)
        assert name in keys(sdk, client)
        assert download(sdk, client, name) == data
    step("an upload never replaces a backup, and must be a zip")
    before = keys(sdk, client)
    taken = "validation_backup_name_exists"
    fails_on(sdk, "file", taken, lambda: sdk.upload(client, "copy.zip", data))
    mime = "validation_invalid_mime_type"
    fails_on(sdk, "file", mime, lambda: sdk.upload(client, "words.zip", b"just words"))
    if not IS_POCKETBASE:
        # PocketBase looks at four bytes only, keeps this, and fails at the restore.
        body = fails(sdk, 400, lambda: sdk.upload(client, "cut.zip", data[: len(data) // 2]))
        assert body["data"]["file"]["code"], body
    assert keys(sdk, client) == before
    step("a deleted backup is gone, and cannot be deleted again")
    for key in before:
        client.backups.delete(key)
    assert sdk.list(client) == []
    body = fails(sdk, 400, lambda: client.backups.delete("copy.zip"))
    assert IS_POCKETBASE or str(DIR_A) not in str(body), body


def settings(sdk: Sdk, client: typing.Any) -> None:
    step("settings are changed in part, wrong ones are refused where they are wrong")
    before = sdk.settings(client)
    assert sdk.update(client, {"meta": {"appName": "Python Peer"}})["meta"]["appName"] == "Python Peer"
    after = sdk.settings(client)
    assert after == {**before, "meta": {**before["meta"], "appName": "Python Peer"}}
    for field, code, backups in (
        ("backups.cron", "validation_invalid_cron", {"cron": "every day"}),
        ("backups.cronMaxKeep", "validation_required", {"cron": "@daily", "cronMaxKeep": 0}),
        ("backups.s3.bucket", "validation_required", {"s3": {"enabled": True}}),
    ):
        fails_on(sdk, field, code, lambda: sdk.update(client, {"backups": backups}))
    answer = sdk.update(client, {"backups": {"s3": {"secret": "never-to-be-seen"}}})
    assert "never-to-be-seen" not in str(answer) + str(sdk.settings(client))
    sdk.update(client, {"backups": {"s3": {"secret": ""}}})
    assert sdk.settings(client) == after
    fails(sdk, 400, client.settings.test_s3)


def schedule(sdk: Sdk, client: typing.Any) -> None:
    job = "__pbAutoBackup__"
    step("a schedule makes a job that can be run by hand")
    assert job not in sdk.job_ids(client)
    fails(sdk, 404, lambda: client.crons.run(job))
    sdk.update(client, {"backups": {"cron": "0 0 1 1 *", "cronMaxKeep": 1}})
    assert sdk.job_ids(client)[job] == "0 0 1 1 *"
    client.crons.run(job)
    (key,) = eventually("an automatic backup is there", lambda: keys(sdk, client) or None)
    assert re.fullmatch(r"@auto_pb_backup_python_peer_\d{14}\.zip", key), key
    eventually("the job has ended", lambda: sdk.health(client)[2]["canBackup"])
    inspect(download(sdk, client, key))
    sdk.update(client, {"backups": {"cron": "", "cronMaxKeep": 3}})
    assert job not in sdk.job_ids(client)
    client.backups.delete(key)


def way_back(sdk: Sdk, client: typing.Any) -> None:
    step("a restore brings the whole older state back")
    message = fails(sdk, 400, lambda: client.backups.restore("missing.zip"))["message"]
    assert message == "Missing or invalid backup file."
    kept = DIR_A / "storage" / "peer" / "kept.txt"
    later = DIR_A / "storage" / "peer" / "later.txt"
    kept.write_text("before")
    sdk.update(client, {"meta": {"appName": "Before"}})
    client.backups.create("point.zip")
    kept.write_text("after")
    later.write_text("made after the backup")
    sdk.update(client, {"meta": {"appName": "After"}})
    client.backups.restore("point.zip")
    eventually("the older state is served", lambda: app_name(sdk, client) == "Before")
    assert kept.read_text() == "before" and not later.exists()
    assert keys(sdk, client) == ["point.zip"], "backups outlive a restore"
    client.backups.create("afterwards.zip")
    inspect(download(sdk, client, "afterwards.zip"))


def way_over(sdk: Sdk, client: typing.Any) -> None:
    step("a backup moves to another server and brings its superusers along")
    other = sdk.login(B, OTHER_PASSWORD)
    data = download(sdk, client, "point.zip")
    sdk.upload(other, "point.zip", data)
    assert download(sdk, other, "point.zip") == data
    other.backups.restore("point.zip")
    moved = eventually("the other server knows the new password", lambda: sdk.login(B, PASSWORD))
    assert app_name(sdk, moved) == "Before"
    assert keys(sdk, moved) == ["point.zip"]
    fails(sdk, 400, lambda: sdk.login(B, OTHER_PASSWORD))
    fails(sdk, 401, lambda: sdk.list(other))
