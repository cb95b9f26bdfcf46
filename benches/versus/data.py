"""Makes a seeded, lifelike pb_data folder: a real PocketBase makes the schema, then rows go
straight into data.db and uploads into storage/, each with the side-car that PocketBase writes."""

import base64
import hashlib
import json
import os
import random
import shutil
import sqlite3
import zipfile
from dataclasses import dataclass
from pathlib import Path

from corpus import KINDS, Corpus, letters, stamp

MB = 1 << 20
FILE_BYTES_MAX = 20 * MB
# Changed with every change of what is made, so that an older template is not taken for a new one.
VERSION = 1


@dataclass(frozen=True)
class Profile:
    """What is made. `deviation` is that of the logarithm of the sizes of uploads; `watch_s` is how
    long what goes on all the time is watched."""

    db_bytes: int
    files_bytes: int
    files: int
    deviation: float
    upload_bytes: int
    listed: int
    watch_s: float = 3.0


PROFILES = {
    "tiny": Profile(2 * MB, 3 * MB, 30, 1.5, 4 * MB, 100, 0.5),
    "small": Profile(20 * MB, 30 * MB, 300, 1.7, 50 * MB, 1_000),
    "medium": Profile(410 * MB, 620 * MB, 5_000, 1.7, 1_024 * MB, 10_000),
    "large": Profile(2_048 * MB, 3_072 * MB, 15_000, 1.7, 1_024 * MB, 10_000),
    "many": Profile(40 * MB, 200 * MB, 100_000, 0.25, 64 * MB, 10_000),
}


def _text(name):
    return {"name": name, "type": "text"}


_DATES = [
    {"name": "created", "type": "autodate", "onCreate": True},
    {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
]
COLLECTIONS = [
    {
        "name": "posts",
        "type": "base",
        "fields": [
            _text("title"),
            _text("slug"),
            {"name": "body", "type": "editor"},
            {"name": "views", "type": "number"},
            *_DATES,
        ],
        "indexes": [
            "CREATE INDEX idx_posts_slug ON posts (slug)",
            "CREATE INDEX idx_posts_created ON posts (created)",
        ],
    },
    {
        "name": "comments",
        "type": "base",
        "fields": [
            _text("post"),
            _text("author"),
            _text("message"),
            {"name": "meta", "type": "json"},
            *_DATES,
        ],
        "indexes": ["CREATE INDEX idx_comments_post ON comments (post)"],
    },
    {
        "name": "events",
        "type": "base",
        "fields": [
            _text("kind"),
            {"name": "payload", "type": "json"},
            {"name": "amount", "type": "number"},
            *_DATES,
        ],
    },
    {
        "name": "media",
        "type": "base",
        "fields": [
            _text("title"),
            {"name": "doc", "type": "file", "maxSelect": 1, "maxSize": 64 * MB},
            *_DATES,
        ],
    },
    {
        "name": "bench",
        "type": "base",
        "createRule": "",
        "fields": [_text("title"), {"name": "n", "type": "number"}, *_DATES],
    },
]


def make(target: Path, profile: Profile, seed: int, serve):
    """Fills `target`. `serve` starts a real PocketBase on a folder and gives a client of it."""
    rng = random.Random(seed)
    with serve(target) as client:
        ids = {c["name"]: client.json("POST", "/api/collections", c)["id"] for c in COLLECTIONS}
    corpus = Corpus(rng)
    _rows(target / "data.db", profile, rng, corpus)
    _uploads(target, ids["media"], profile, rng, corpus)


def _rows(path, profile, rng, corpus):
    db = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-262144"):
        db.execute(f"PRAGMA {pragma}")
    makers = (_Posts(rng, corpus), _Comments(rng, corpus), _Events(rng, corpus))
    now, posts = 1_700_000_000.0, [letters(rng)]
    while db.execute("PRAGMA page_count").fetchone()[0] * 4096 < profile.db_bytes:
        for maker in makers:
            some = []
            for _ in range(maker.at_once):
                now += rng.random() * 5
                some.append((letters(rng), *maker.row(posts), stamp(now), stamp(now)))
            if maker is makers[0]:
                posts.extend(row[0] for row in some)
            with db:
                places = ",".join("?" * len(some[0]))
                columns = f"id,{maker.columns},created,updated"
                db.executemany(f"INSERT INTO {maker.table} ({columns}) VALUES ({places})", some)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


class _Posts:
    table, columns, at_once = "posts", "title,slug,body,views", 400

    def __init__(self, rng, corpus):
        self.rng, self.corpus = rng, corpus

    def row(self, _posts):
        title = self.corpus.phrase(32)
        count = min(12, 1 + int(self.rng.expovariate(0.33)))
        lengths = [self.rng.randint(100, 500) for _ in range(count)]
        body = "".join(f"<p>{self.corpus.phrase(length)}</p>" for length in lengths)
        return title, title.lower().replace(" ", "-"), body, int(self.rng.paretovariate(0.8))


class _Comments:
    table, columns, at_once = "comments", "post,author,message,meta", 1_600

    def __init__(self, rng, corpus):
        self.rng, self.corpus = rng, corpus

    def row(self, posts):
        address = ".".join(str(self.rng.randrange(255)) for _ in range(3))
        meta = json.dumps({"ip": f"10.{address}", "edited": self.rng.random() < 0.1})
        message = self.corpus.phrase(self.rng.randint(60, 350))
        return self.rng.choice(posts[-3000:]), self.corpus.phrase(12), message, meta


class _Events:
    table, columns, at_once = "events", "kind,payload,amount", 2_400

    def __init__(self, rng, corpus):
        self.rng = rng
        self.pages = [corpus.phrase(24).replace(" ", "/").lower() for _ in range(500)]
        self.agents = [
            f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"
            for version in range(80, 140)
        ]

    def row(self, posts):
        choose = self.rng.choice
        payload = {
            "path": choose(self.pages),
            "ms": self.rng.randrange(2000),
            "user": choose(posts[-500:]),
            "ok": self.rng.random() < 0.97,
            "agent": choose(self.agents),
            "app": {"name": "storefront-web", "version": "4.1.0", "channel": "production"},
            "screen": choose(("1920x1080", "390x844", "1440x900")),
            "locale": choose(("en-US", "de-DE", "fr-FR")),
            "session": None,
        }
        kind = choose(("view", "click", "login", "purchase", "error"))
        return kind, json.dumps(payload), round(self.rng.expovariate(0.05), 2)


def _sizes(profile, rng):
    """Log-normal sizes that add up to what is wanted."""
    shapes = [rng.lognormvariate(0, profile.deviation) for _ in range(profile.files)]
    factor = profile.files_bytes / sum(shapes)
    for _ in range(20):  # the limits move the sum, so that it takes a few rounds
        sizes = [min(FILE_BYTES_MAX, max(512, int(shape * factor))) for shape in shapes]
        factor *= profile.files_bytes / sum(sizes)
    return sizes


def _uploads(target, collection, profile, rng, corpus):
    rows, at = [], 1.71e9
    shares = [share for _, _, share in KINDS]
    for size in _sizes(profile, rng):
        ((kind, media_type, _),) = rng.choices(KINDS, shares)
        record, stem = letters(rng), corpus.phrase(10).replace(" ", "_").replace(".", "")
        body = corpus.body(kind, size)
        name = f"{stem}_{letters(rng, 10)}.{kind}"
        place_upload(target / "storage" / collection / record, name, body, media_type)
        at += 7
        rows.append((record, stem, name, stamp(at), stamp(at)))
    db = sqlite3.connect(target / "data.db")
    with db:
        db.executemany("INSERT INTO media (id,title,doc,created,updated) VALUES (?,?,?,?,?)", rows)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def place_upload(folder, name, body, media_type):
    """Writes a file and its side-car as PocketBase does."""
    attributes = {
        "user.cache_control": "",
        "user.content_disposition": "",
        "user.content_encoding": "",
        "user.content_language": "",
        "user.content_type": media_type,
        "user.metadata": {"original-filename": name},
        "md5": base64.b64encode(hashlib.md5(body).digest()).decode(),
    }
    os.makedirs(folder)
    (folder / name).write_bytes(body)
    (folder / f"{name}.attrs").write_text(json.dumps(attributes, separators=(",", ":")))


def change_some(target: Path, share: float, seed: int):
    """What a day does: `share` of the uploads are replaced and `share` of the posts edited."""
    rng = random.Random(seed)
    db = sqlite3.connect(target / "data.db", timeout=60)
    records = db.execute("SELECT id, doc FROM media ORDER BY id").fetchall()
    (collection,) = db.execute("SELECT id FROM _collections WHERE name = 'media'").fetchone()
    storage = target / "storage" / collection
    chosen = rng.sample(records, max(1, int(len(records) * share)))
    for record, name in chosen:
        body = bytearray((storage / record / name).read_bytes())
        at = len(body) // 2
        body[at : at + 16] = rng.randbytes(len(body[at : at + 16]))
        new, new_name = letters(rng), f"{letters(rng, 10)}_{name}"[-120:]
        place_upload(storage / new, new_name, bytes(body), "application/octet-stream")
        with db:
            db.execute("UPDATE media SET id = ?, doc = ? WHERE id = ?", (new, new_name, record))
        shutil.rmtree(storage / record)
    with db:
        db.execute(
            "UPDATE posts SET views = views + 1 WHERE rowid % ? = ?",
            (round(1 / share), rng.randrange(round(1 / share))),
        )
    db.close()


def make_archive(path: Path, size_bytes: int, seed: int):
    """A zip of about that size that no server can shrink, to be uploaded."""
    rng = random.Random(seed)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        archive.open("data.bin", "w", force_zip64=True) as out,
    ):
        for _ in range(size_bytes // MB):
            out.write(rng.randbytes(MB))
