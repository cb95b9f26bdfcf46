#!/usr/bin/env python3
"""Measures our server beside a real PocketBase on the same data, in turns, and prints a table.

    python3 benches/versus/run.py --profile medium --rounds 5

Data is made once per profile and seed and kept in the target folder; each server works on a copy
of its own. Needs Python 3.11, curl, and a PocketBase: the one that POCKETVAULT_PEER_POCKETBASE
names, or the one that tests/peers builds (with go). Without a PocketBase nothing is measured, and
that is said; with POCKETVAULT_PEERS=require it is an error. docs/performance.md explains the rows.

Profiles (database + files): tiny 2 + 3 MB, small 20 + 30 MB, medium 0.4 + 0.6 GB in 5,000 files,
large 2 + 3 GB in 15,000 files, many 40 + 200 MB in 100,000 files of 2 KB. Each file has a side-car.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import data
import meter
import rows
import table
from servers import TARGET, Absent, Program, our_program, peer_program


def main():
    # Told to end, it still stops its servers and removes the copies.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = _arguments()
    try:
        peer_path = peer_program(arguments.peer)
    except Absent as absent:
        print(f"SKIPPED: no real PocketBase {arguments.peer}: {absent}", file=sys.stderr)
        return int(os.environ.get("POCKETVAULT_PEERS") == "require")
    peer = Program("theirs", peer_path, arguments.peer)
    ours = Program("ours", our_program(arguments.ours, arguments.features), "")
    profile, work = data.PROFILES[arguments.profile], Path(arguments.work).resolve()
    template = _template(work, arguments, profile, peer)
    archive = work / f"upload-{profile.upload_bytes}.zip"
    if not archive.exists():
        data.make_archive(archive, profile.upload_bytes, arguments.seed)
    sides = (
        [ours, peer]
        if not arguments.only
        else [p for p in (ours, peer) if p.side == arguments.only]
    )
    results = []
    with contextlib.ExitStack() as cleanup:
        stages = {}
        for side in sides:
            folder = work / f"{arguments.profile}-{side.side}"
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            _copy(template, folder)
            stages[side.side] = rows.Stage(side, peer, folder, profile, archive)
        for number in range(arguments.rounds):
            _round(number, arguments, stages, results)
    _report(results, arguments, peer)
    return 0


def _round(number, arguments, stages, results):
    """Every row on every side; who begins changes with each round."""
    order = list(stages.values())
    if number % 2:
        order.reverse()
    log = Path(arguments.work) / f"results-{arguments.profile}.jsonl"
    for name in arguments.rows.split(","):
        for stage in order:
            _await_quiet(arguments.quiet)
            stage.check = number == 0
            for row, seen in rows.ROWS[name](stage, arguments.seed + number).items():
                result = {"row": row, "side": stage.program.side, "round": number} | seen
                results.append(result)
                line = json.dumps({name: _short(value) for name, value in result.items()})
                print(line, file=sys.stderr, flush=True)
                with open(log, "a") as out:
                    out.write(line + "\n")


def _short(value):
    return round(value, 4) if isinstance(value, float) else value


def _template(work, arguments, profile, peer):
    """The data, made now unless it is there already."""
    template = work / f"template-{arguments.profile}-{arguments.seed}-v{data.VERSION}"
    if not template.exists():
        print(f"making the data of profile {arguments.profile}", file=sys.stderr, flush=True)
        partial = work / f"{template.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        target = partial / "pb_data"
        target.mkdir(parents=True)
        peer.upsert(target)

        @contextlib.contextmanager
        def serve(folder):
            with peer.serve(folder) as server:
                yield server.client

        data.make(target, profile, arguments.seed, serve)
        shutil.rmtree(partial / "pb_data.tmp")
        partial.rename(template)
    return template


def _copy(template, folder):
    """The own copy of one server; without a second place on the disk where it can do that."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", template, folder], check=True)


def _await_quiet(limit_s):
    """Waits until others leave the machine alone, for at most that long."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        before = meter.machine_cpu_s()
        time.sleep(1)
        if meter.machine_cpu_s() - before < 0.3:
            return


def _report(results, arguments, peer):
    others = [seen["others_cores"] for seen in results if "others_cores" in seen]
    built = arguments.ours or f"release build, features: {arguments.features or 'none'}"
    print(f"profile {arguments.profile}, {arguments.rounds} rounds, ours: {built}; ", end="")
    print(f"PocketBase {peer.version}, ", end="")
    print(f"{os.cpu_count()} cores ({platform.machine()}, Linux {platform.release()}), ", end="")
    print(
        f"{time.strftime('%Y-%m-%d')}; others took {statistics.median(others):.2f} cores meanwhile"
    )
    print("median (least–greatest); the ratio is the median of the rounds' ratios\n")
    print(table.render(results, arguments.profile))


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=data.PROFILES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default=",".join(rows.ROWS), help="some of %(default)s")
    parser.add_argument("--peer", default="0.40.4", help="version of PocketBase: 0.40.4 or 0.39.11")
    parser.add_argument(
        "--ours", help="our server's program; without it, it is built in release mode"
    )
    parser.add_argument("--features", default="", help="cargo features to build ours with")
    parser.add_argument("--only", choices=("ours", "theirs"), help="measure one side only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--quiet", type=float, default=0, help="longest wait for a quiet machine, seconds"
    )
    parser.add_argument("--work", default=str(TARGET / "versus"), help="where the data lies")
    arguments = parser.parse_args()
    unknown = set(arguments.rows.split(",")) - rows.ROWS.keys()
    if unknown or arguments.rounds < 1:
        parser.error(f"unknown rows: {', '.join(unknown)}" if unknown else "at least one round")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
