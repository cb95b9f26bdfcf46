"""Finds, starts and drives the two servers, ours and a real PocketBase, by the same API."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
EMAIL, PASSWORD = "bench@example.com", "bench-password"
START_LIMIT_S = 120
STOP_LIMIT_S = 120
ANSWER_LIMIT_S = 3600
# Version: its module in tests/peers/go, and the newest toolchain that it can stand.
PEERS = {"0.40.4": ("newer", "go1.27.1"), "0.39.11": ("older", "go1.26.8")}


class Absent(Exception):
    """A program that is not here and cannot be had."""


def our_program(given, features):
    """Our server: the given one, or built now with those cargo features."""
    if given:
        return Path(given).resolve()
    command = ["cargo", "build", "--release", "--bin", "pocketvault", "--features", features]
    subprocess.run(command, cwd=ROOT, check=True)
    return TARGET / "release" / "pocketvault"


def peer_program(version):
    """A real PocketBase: that of POCKETVAULT_PEER_POCKETBASE, or the one of tests/peers."""
    named = os.environ.get("POCKETVAULT_PEER_POCKETBASE")
    if named:
        return Path(named).resolve()
    module, toolchain = PEERS[version]
    home = TARGET / "tmp" / "peers" / f"pocketbase-{version}"
    program = home / "pocketbase"
    if program.exists():
        return program
    if not shutil.which("go"):
        raise Absent("there is no go to build it with, and POCKETVAULT_PEER_POCKETBASE names none")
    home.mkdir(parents=True, exist_ok=True)
    sources = ROOT / "tests" / "peers" / "go"
    for source in [sources / "main.go", *(sources / module).iterdir()]:
        shutil.copy(source, home)
    command = [
        "go",
        "build",
        "-mod=readonly",
        "-buildvcs=false",
        "-tags",
        "no_ui",
        "-o",
        "pocketbase",
        ".",
    ]
    surroundings = {"GOTOOLCHAIN": toolchain, "CGO_ENABLED": "0", "GOWORK": "off"}
    built = subprocess.run(
        command,
        check=False,
        cwd=home,
        env=os.environ | surroundings,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        raise Absent(f"it cannot be built: {built.stderr.strip()}")
    return program


class Client:
    """One kept connection."""

    def __init__(self, address, token=None):
        self.address, self.token, self.connection = address, token, None

    def call(self, method, path, body=None):
        """Status and body of the answer."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.address, timeout=ANSWER_LIMIT_S)
        headers = {"Authorization": self.token} if self.token else {}
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def json(self, method, path, body=None):
        """The body of an answer that must be a success."""
        status, raw = self.call(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {raw[:300]!r}")
        return json.loads(raw) if raw else None

    def login(self):
        path = "/api/collections/_superusers/auth-with-password"
        self.token = self.json("POST", path, {"identity": EMAIL, "password": PASSWORD})["token"]


class Server:
    """A running server on a folder."""

    def __init__(self, process, address, data, temporary, log):
        self.process, self.pid, self.address = process, process.pid, address
        self.data, self.temporary, self.log = data, temporary, log
        self.client = Client(address)

    @property
    def backups(self):
        return self.data / "backups"

    def working_folders(self):
        """Everywhere a backup or an upload may leave bytes while it is made."""
        ours = self.data / ".pocketvault" / "staging"
        return [self.backups, self.data / ".pb_temp_to_delete", ours, self.temporary]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Program:
    """A server that can be started: `ours` or `theirs`."""

    def __init__(self, side, path, version):
        self.side, self.path, self.version = side, path, version

    @contextlib.contextmanager
    def serve(self, data: Path):
        """The server on `data`, healthy and logged in, until the block ends."""
        server = self._start(data)
        try:
            _wait_healthy(server)
            server.client.login()
            yield server
        finally:
            server.stop()

    def upsert(self, data: Path):
        """Makes the folder, if need be, and the superuser."""
        command = [self.path, "superuser", "upsert", EMAIL, PASSWORD, "--dir", data]
        subprocess.run(command, check=True, env=self._surroundings(data), stdout=subprocess.DEVNULL)

    def _surroundings(self, data):
        """Nothing of the caller's own settings; temporary files where they can be counted. (A
        PocketBase below the temporary folder takes itself for `go run`, and logs everything.)"""
        temporary = data.parent / f"{data.name}.tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith("POCKETVAULT_")
        }
        return kept | {"TMPDIR": str(temporary)}

    def _writes_migrations(self):
        """Whether it is PocketBase's own program, which keeps migrations in files unless told not
        to; the bare one that tests/peers builds does not know that flag."""
        shown = subprocess.run([self.path, "--help"], capture_output=True, text=True, check=False)
        return "--automigrate" in shown.stdout + shown.stderr

    def _start(self, data):
        surroundings, log = self._surroundings(data), data.parent / f"{data.name}.{self.side}.log"
        address = "127.0.0.1:0" if self.side == "ours" else _free_address()
        command = [self.path, "serve", "--http", address, "--dir", data]
        # Ours may answer before a long backup is finished; here the answer is the end.
        if self.side == "ours":
            command += ["--create-wait", str(ANSWER_LIMIT_S)]
        elif self._writes_migrations():
            command += ["--automigrate=false"]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command,
                env=surroundings,
                cwd=data.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        server = Server(process, address, data, Path(surroundings["TMPDIR"]), log)
        if self.side == "ours":
            server.address = server.client.address = _printed_address(server)
        return server


def _free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _patiently(server, what, attempt):
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and server.process.poll() is None:
        found = attempt()
        if found:
            return found
        time.sleep(0.02)
    server.stop()
    sys.exit(f"{what}: {server.log.read_text(errors='replace')[-2000:]}")


def _printed_address(server):
    def attempt():
        printed = re.search(
            r" on http://(127\.0\.0\.1:\d+)\s", server.log.read_text(errors="replace")
        )
        return printed and printed[1]

    return _patiently(server, "the server does not tell its address", attempt)


def _wait_healthy(server):
    def attempt():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return server.client.call("GET", "/api/health")[0] == 200

    _patiently(server, "the server is not healthy", attempt)
