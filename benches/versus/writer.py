"""Writes to an application all the time, as a process of its own, and notes how long each took.

`writer.py sql DATABASE` inserts rows with SQLite itself, `writer.py api ADDRESS` creates records
through PocketBase's API. It ends at SIGTERM and prints a list of [start, milliseconds, failed].
"""

import http.client
import json
import signal
import sqlite3
import sys
import time

EVERY_S = 0.005


def sql(path):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS _bench_writes (n INTEGER PRIMARY KEY, at REAL, filler TEXT)"
    )
    return lambda: db.execute(
        "INSERT INTO _bench_writes (at, filler) VALUES (?, ?)", (time.time(), "x" * 200)
    )


def api(address):
    connection = http.client.HTTPConnection(address, timeout=120)

    def write():
        body = json.dumps({"title": "x" * 200, "n": time.time()})
        try:
            connection.request(
                "POST", "/api/collections/bench/records", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if answer.status != 200:
            raise OSError(f"status {answer.status}")

    return write


def main():
    write = {"sql": sql, "api": api}[sys.argv[1]](sys.argv[2])
    stopped, seen = [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    due = time.monotonic()
    while not stopped:
        start = time.monotonic()
        failed = 0
        try:
            write()
        except (sqlite3.Error, OSError, http.client.HTTPException):
            failed = 1
        seen.append((start, (time.monotonic() - start) * 1000, failed))
        due = max(due + EVERY_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
