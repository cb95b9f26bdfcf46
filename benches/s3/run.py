#!/usr/bin/env python3
"""Measures a backup to a bucket beside the same backup to the local disk, in turns.

    python3 benches/s3/run.py --sizes 100,1000,5000 --rounds 3

The bucket is on versitygw over loopback: the one that POCKETVAULT_PEER_VERSITYGW names, or the
one that tests/peers built. Without one nothing is measured, and that is said; with
POCKETVAULT_PEERS=require it is an error. Sizes are megabytes of data that nothing compresses, the
worst case for a bucket: every byte is hashed twice, sent and written again by the gateway on the
same machine. It needs three times the largest size on the disk. Prints a table.
"""

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "versus"))

import meter  # noqa: E402
from servers import TARGET, Program, our_program  # noqa: E402

ACCESS_KEY, SECRET, REGION, BUCKET = "bench-key", "bench-secret", "bench-region", "backups"
FILE_BYTES = 50_000_000
START_LIMIT_S = 30


def main():
    arguments = _arguments()
    gateway = os.environ.get("POCKETVAULT_PEER_VERSITYGW")
    gateway = Path(gateway or TARGET / "tmp" / "peers" / "versitygw" / "versitygw").resolve()
    if not gateway.exists():
        print(f"SKIPPED: there is no {gateway}; tests/peers builds it", file=sys.stderr)
        return int(os.environ.get("POCKETVAULT_PEERS") == "require")
    ours = Program("ours", our_program(arguments.ours, ""), "")
    work = Path(arguments.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    print(
        "| data, MB | to | time, s | MB/s | CPU, s | memory above idle, MiB | others, cores "
        "| the store's CPU, s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes.split(","):
        home = work / f"s3-{size}"
        try:
            _measure(home, int(size), arguments.rounds, ours, gateway)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    return 0


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,1000", help="megabytes, parted by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", help="measures that program instead of building one")
    parser.add_argument("--work", default=TARGET / "versus", help="where the data lies")
    return parser.parse_args()


def _measure(home, size_mb, rounds, ours, gateway):
    shutil.rmtree(home, ignore_errors=True)
    data = home / "pb_data"
    data.parent.mkdir(parents=True)
    # Each backup does the whole work, and nothing else goes on beside it: that it is read back
    # afterwards is a job of its own.
    options = "[archive]\nreuse = false\n[proof]\nafter_backup = false\n"
    (home / "pocketvault.toml").write_text(options)
    ours.upsert(data)
    _fill(data / "storage", size_mb * 1_000_000)
    found = {"disk": [], "bucket": []}
    with _gateway(gateway, home) as (endpoint, store), ours.serve(data) as server:
        for turn in range(rounds):
            for place in ["disk", "bucket"] if turn % 2 == 0 else ["bucket", "disk"]:
                settings = {"enabled": place == "bucket", "bucket": BUCKET, "region": REGION}
                settings |= {"endpoint": endpoint, "accessKey": ACCESS_KEY, "secret": SECRET}
                settings |= {"forcePathStyle": True}
                server.client.json("PATCH", "/api/settings", {"backups": {"s3": settings}})
                watch, before = meter.Meter(server.pid), meter.process_cpu_s(store)
                server.client.json("POST", "/api/backups", {"name": "bench.zip"})
                result = watch.done()
                found[place].append(result | {"store_s": meter.process_cpu_s(store) - before})
                listed = server.client.json("GET", "/api/backups")
                if listed[0]["size"] < size_mb * 1_000_000:
                    sys.exit(f"the backup is too small: {listed}")
                server.client.json("DELETE", "/api/backups/bench.zip")
    for place, results in found.items():
        median = {key: statistics.median(one[key] for one in results) for key in results[0]}
        peak = max(one["memory_mib"] for one in results)
        print(
            f"| {size_mb} | {place} | {median['time_s']:.2f} | {size_mb / median['time_s']:.0f} "
            f"| {median['cpu_s']:.2f} | {peak:.0f} | {median['others_cores']:.1f} "
            f"| {median['store_s']:.2f} |",
            flush=True,
        )
    ratios = [b["time_s"] / d["time_s"] for d, b in zip(found["disk"], found["bucket"], strict=True)]
    print(f"| {size_mb} | bucket / disk | {statistics.median(ratios):.2f} | | | | | |", flush=True)


def _fill(folder, size_bytes):
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while size_bytes > 0:
        part = min(size_bytes, FILE_BYTES)
        (folder / f"noise-{number}.bin").write_bytes(os.urandom(part))
        size_bytes, number = size_bytes - part, number + 1


@contextlib.contextmanager
def _gateway(program, home):
    root, side = home / "root", home / "meta"
    (root / BUCKET).mkdir(parents=True)
    side.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program, "--access", ACCESS_KEY, "--secret", SECRET, "--region", REGION]
    command += ["--port", address, "--quiet", "posix", "--sidecar", side, root]
    with open(home / "gateway.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
    try:
        _wait(process, address, home / "gateway.log")
        yield f"http://{address}", process.pid
    finally:
        process.terminate()
        process.wait()


def _wait(process, address, log):
    host, port = address.split(":")
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    sys.exit(f"the gateway does not start: {log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
