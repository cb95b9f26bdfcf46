"""What is measured. Each function works on one server and returns numbers by name."""

import contextlib
import http.client
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import data
from meter import Meter, process_cpu_s
from servers import Client

WRITER = Path(__file__).with_name("writer.py")
WRITER_PAUSE_S = 0.3
LIST_CALLS_MIN = 3
LIST_CALLS_MAX = 200
RESTORE_LIMIT_S = 1800
REST_LIMIT_S = 120
# ext4 goes past inodes that were deleted within the last minute one by one: files made soon after
# many were removed cost several times the CPU, whoever makes them.
INODES_FORGOTTEN_S = 65
MANY_FILES = 1000


class Stage:
    """One server's own copy of the data, and what the measurements need to know."""

    def __init__(self, program, peer, folder: Path, profile, archive: Path):
        self.program, self.peer, self.profile, self.check = program, peer, profile, True
        self.data, self.listed, self.archive = folder / "pb_data", folder / "listed", archive

    def serve(self):
        return self.program.serve(self.data)


def create(stage, seed):
    """A first backup, then another one after 1 % of the uploads and posts have changed."""
    with stage.serve() as server:
        first = _create(server, "first.zip")
        if stage.check:
            check_archive(server.backups / "first.zip", stage.data)
        data.change_some(stage.data, 0.01, seed)
        again = _create(server, "again.zip")
        for name in ("first.zip", "again.zip"):
            server.client.json("DELETE", f"/api/backups/{name}")
    return {"create": first, "create again": again}


def _create(server, name):
    _rest(server)
    _warm(server.data)
    _settle(server.data)
    meter = Meter(server.pid, server.working_folders())
    server.client.json("POST", "/api/backups", {"name": name})
    seen = meter.done()
    answered_cpu_s = process_cpu_s(server.pid)
    archive = server.backups / name
    started = time.perf_counter()
    _sync(archive)
    seen["durable_s"] = seen["time_s"] + time.perf_counter() - started
    seen["archive_mb"] = archive.stat().st_size / 1e6
    seen["disk_archives"] = seen["disk_mb"] / seen["archive_mb"]
    _rest(server)
    seen["afterwards_cpu_s"] = process_cpu_s(server.pid) - answered_cpu_s
    return seen


def check_archive(path, folder):
    """A fast backup that is not one would win every race."""
    with (
        zipfile.ZipFile(path) as archive,
        tempfile.TemporaryDirectory(dir=folder.parent) as scratch,
    ):
        names = set(archive.namelist())
        broken = archive.testzip()
        archive.extract("data.db", scratch)
        # PocketBase's archives bring the log along, which belongs to the database.
        if "data.db-wal" in names:
            archive.extract("data.db-wal", scratch)
        db = sqlite3.connect(Path(scratch) / "data.db")
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        (collection,) = db.execute("SELECT id FROM _collections WHERE name = 'media'").fetchone()
        named = {
            f"storage/{collection}/{record}/{doc}"
            for record, doc in db.execute("SELECT id, doc FROM media")
        }
        db.close()
    if broken or verdict != "ok" or named - names:
        sys.exit(
            f"{path} is no good backup: {broken=} {verdict=} {len(named - names)} files missing"
        )


def latency(stage, seed):
    """How long writes of another process take, first alone, then while a backup is made; then the
    same for writes through the API of a PocketBase that serves the folder."""
    idle_s = stage.profile.watch_s
    with stage.serve() as server:
        seen = {"writer, SQLite": _written_during(server, "sql", stage.data / "data.db", idle_s)}
        server.client.json("DELETE", "/api/backups/latency.zip")
        if stage.program.side == "theirs":
            seen["writer, API"] = _written_during(server, "api", server.address, idle_s)
            server.client.json("DELETE", "/api/backups/latency.zip")
            return seen
    # Ours makes the backup beside a PocketBase that takes the writes.
    with stage.peer.serve(stage.data) as owner, stage.serve() as server:
        seen["writer, API"] = _written_during(server, "api", owner.address, idle_s)
        server.client.json("DELETE", "/api/backups/latency.zip")
    return seen


def _written_during(server, kind, target, idle_s):
    _warm(server.data)
    _settle(server.data)
    writer = subprocess.Popen([sys.executable, WRITER, kind, str(target)], stdout=subprocess.PIPE)
    try:
        time.sleep(WRITER_PAUSE_S)
        idle_from = time.monotonic()
        time.sleep(idle_s)
        begin = time.monotonic()
        server.client.json("POST", "/api/backups", {"name": "latency.zip"})
        end = time.monotonic()
        time.sleep(WRITER_PAUSE_S)
    finally:
        writer.terminate()
        written = json.loads(writer.communicate()[0])
    # A write counts for the time in which it ended: one that waited for the backup ends after it.
    idle = [
        took for start, took, _ in written if idle_from <= start and start + took / 1000 < begin
    ]
    during = [took for start, took, _ in written if begin <= start + took / 1000 and start < end]
    failed = sum(failed for start, _, failed in written if start >= idle_from)
    seen = {"failed": failed, "writes": len(during), "backup_s": end - begin}
    for name, values in (("idle", idle), ("during", during)):
        for share in (50, 99, 100):
            seen[f"{name}_p{share}_ms"] = percentile(values, share / 100)
    seen["p99_ratio"] = seen["during_p99_ms"] / seen["idle_p99_ms"]
    return seen


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def transfer(stage, _seed):
    """Upload of an archive, then its download over loopback into nothing."""
    with stage.serve() as server:
        _settle(server.data)
        _read(stage.archive)
        size_mb = stage.archive.stat().st_size / 1e6
        form = f"file=@{stage.archive};filename=uploaded.zip;type=application/zip"
        meter = Meter(server.pid, server.working_folders())
        _curl(
            server,
            "upload",
            "204",
            "-H",
            "Expect:",
            "-H",
            f"Authorization: {server.client.token}",
            "-F",
            form,
        )
        upload = meter.done()
        started = time.perf_counter()
        _sync(server.backups / "uploaded.zip")
        upload["durable_s"] = upload["time_s"] + time.perf_counter() - started
        upload["disk_archives"] = upload["disk_mb"] / size_mb
        _read(server.backups / "uploaded.zip")
        token = server.client.json("POST", "/api/files/token")["token"]
        meter = Meter(server.pid)
        took = _curl(server, f"uploaded.zip?token={token}", "200")
        download = meter.done()
        download["mb_per_s"] = size_mb / took
        download["cpu_s_per_gb"] = download["cpu_s"] / (size_mb / 1000)
        server.client.json("DELETE", "/api/backups/uploaded.zip")
    return {"upload": upload, "download": download}


def _curl(server, path, status, *options):
    """Runs curl, checks the status, and gives the seconds it took."""
    url = f"http://{server.address}/api/backups/{path}"
    command = ["curl", "-sS", "-o", os.devnull, "-w", "%{http_code} %{time_total}", *options, url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if answer[0] != status:
        sys.exit(f"{path}: status {answer[0]}; {server.log.read_text(errors='replace')[-2000:]}")
    return float(answer[1])


def restore(stage, _seed):
    """From the request until the restored data is served: settings that were changed after the
    backup have their old value again."""
    with stage.serve() as server:
        _name_application(server.client, "before")
        server.client.json("POST", "/api/backups", {"name": "restore.zip"})
        _name_application(server.client, "after")
        _rest(server)
        _read(server.backups / "restore.zip")
        _settle(server.data)
        if stage.profile.files >= MANY_FILES:
            time.sleep(INODES_FORGOTTEN_S)
        watch = _Watch(server)
        meter = Meter(server.pid)
        begin = time.perf_counter()
        watch.start()
        server.client.json("POST", "/api/backups/restore.zip/restore")
        answered = time.perf_counter()
        watch.done.wait(RESTORE_LIMIT_S)
        seen = meter.done()
        if watch.restored is None:
            sys.exit(
                f"the data did not come back: {server.log.read_text(errors='replace')[-2000:]}"
            )
        seen |= {
            "answered_s": answered - begin,
            "time_s": watch.restored - answered,
            "refused": watch.failed,
        }
        seen["longest_gap_s"] = watch.longest_gap
        # The process was replaced, and its old connections are dead.
        server.client.connection.close()
        server.client.connection = None
        server.client.json("DELETE", "/api/backups/restore.zip")
    return {"restore": seen}


def _name_application(client, name):
    client.json("PATCH", "/api/settings", {"meta": {"appName": name}})


class _Watch(threading.Thread):
    """Asks for the settings all the time, each time on a new connection."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.done = server, threading.Event()
        self.restored, self.failed, self.longest_gap = None, 0, 0.0

    def run(self):
        good, end = time.perf_counter(), time.perf_counter() + RESTORE_LIMIT_S
        while time.perf_counter() < end:
            client = Client(self.server.address, self.server.client.token)
            try:
                name = client.json("GET", "/api/settings")["meta"]["appName"]
            except (OSError, http.client.HTTPException, RuntimeError):
                self.failed += 1
                name = None
            if name is not None:
                now = time.perf_counter()
                self.longest_gap, good = max(self.longest_gap, now - good), now
                if name == "before":
                    self.restored = now
                    break
            if client.connection:
                client.connection.close()
            time.sleep(0.02)
        self.done.set()


def listing(stage, _seed):
    """The list of many backups."""
    if not stage.listed.exists():
        stage.program.upsert(stage.listed)
        _fill_list(stage.listed / "backups", stage.profile.listed)
    with stage.program.serve(stage.listed) as server:
        found = len(server.client.json("GET", "/api/backups"))
        if found != stage.profile.listed:
            sys.exit(f"{found} backups are listed of {stage.profile.listed}")
        meter = Meter(server.pid)
        calls, end = [], time.perf_counter() + stage.profile.watch_s
        while len(calls) < LIST_CALLS_MIN or (
            time.perf_counter() < end and len(calls) < LIST_CALLS_MAX
        ):
            started = time.perf_counter()
            server.client.call("GET", "/api/backups")
            calls.append(time.perf_counter() - started)
        seen = meter.done()
        seen |= {
            "time_s": percentile(calls, 0.5),
            "cpu_s": seen["cpu_s"] / len(calls),
            "calls": len(calls),
        }
    return {"list": seen}


def _fill_list(folder, count):
    """Empty archives with the side-cars that both servers write."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    attributes = json.dumps(
        {"user.content_type": "application/zip", "user.metadata": None, "md5": None}
    )
    for n in range(count):
        name = f"@auto_pb_backup_bench_{20240101000000 + n}.zip"
        (folder / name).write_bytes(buffer.getvalue())
        (folder / f"{name}.attrs").write_text(attributes)


def _read(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _warm(folder):
    """Brings everything into the page cache, so that every round starts from the same state. The
    databases are left to SQLite: this process may hold locks on them."""
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name == "storage"]
        for name in names:
            if not re.search(r"\.db(-wal|-shm)?$", name):
                with contextlib.suppress(OSError):
                    _read(os.path.join(place, name))
    db = sqlite3.connect(folder / "data.db")
    db.execute("SELECT sum(length(message)) FROM comments").fetchone()
    db.close()


def _settle(folder):
    """Writes out what is dirty, so that nobody pays for what happened before."""
    subprocess.run(["sync", "-f", str(folder)], check=True)


def _rest(server):
    """Waits until the server has nothing left to do: ours reads each new backup once more."""
    end = time.monotonic() + REST_LIMIT_S
    while time.monotonic() < end:
        before = process_cpu_s(server.pid)
        time.sleep(0.5)
        if process_cpu_s(server.pid) - before < 0.05:
            return


def _sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def forget(stage):
    """Removes what an interrupted round left."""
    shutil.rmtree(stage.data / "backups", ignore_errors=True)


ROWS = {
    "create": create,
    "latency": latency,
    "transfer": transfer,
    "restore": restore,
    "list": listing,
}
