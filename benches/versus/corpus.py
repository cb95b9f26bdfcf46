"""Contents that look like an application's: text, records, pictures, films, documents."""

import json
import time
import zlib

MB = 1 << 20
ALNUM = "abcdefghijklmnopqrstuvwxyz0123456789"

# Extension, media type, share of the files. Sizes of films are tripled.
KINDS = [
    ("jpg", "image/jpeg", 0.42),
    ("png", "image/png", 0.10),
    ("mp4", "video/mp4", 0.05),
    ("pdf", "application/pdf", 0.13),
    ("txt", "text/plain; charset=utf-8", 0.08),
    ("json", "application/json", 0.08),
    ("svg", "image/svg+xml", 0.08),
    ("csv", "text/csv", 0.06),
]
# First bytes of the kinds whose contents are compressed already.
PACKED_HEADS = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
    "png": b"\x89PNG\r\n\x1a\n",
    "mp4": b"\x00\x00\x00\x18ftypisom",
}


class Corpus:
    """Pseudo-English with Zipf's frequencies, and pools of other contents, to cut pieces from."""

    def __init__(self, rng):
        self.rng = rng
        onsets = [
            "",
            "b",
            "c",
            "d",
            "f",
            "g",
            "h",
            "l",
            "m",
            "n",
            "p",
            "r",
            "s",
            "t",
            "w",
            "st",
            "tr",
            "ch",
            "sh",
            "th",
            "pr",
        ]
        nuclei = ["a", "e", "i", "o", "u", "ea", "ou", "ai", "io"]
        codas = ["", "", "n", "r", "s", "t", "l", "d", "m", "ng", "nt", "ck", "ly"]
        seen = {}
        while len(seen) < 20_000:
            count = 1 if len(seen) < 150 else rng.choice((2, 2, 3, 3, 4))
            seen[
                "".join(
                    rng.choice(onsets) + rng.choice(nuclei) + rng.choice(codas)
                    for _ in range(count)
                )
            ] = None
        words = rng.choices(list(seen), [1 / (n + 3) for n in range(len(seen))], k=2_000_000)
        for n in range(0, len(words) - 1, 11):
            words[n] = words[n].capitalize()
            words[n - 1] += "."
        self.text = " ".join(words)
        self.bytes = self.text.encode()
        self.streams = [zlib.compress(self.cut(24_576), 6) for _ in range(256)]
        self.pools = {
            "json": self._pool(self._json),
            "svg": self._pool(self._svg),
            "csv": self._pool(self._csv),
        }

    def phrase(self, length):
        """About `length` letters of text, whole words."""
        start = self.rng.randrange(len(self.text) - length - 64)
        start = self.text.index(" ", start) + 1
        return self.text[start : self.text.index(" ", start + length)]

    def cut(self, length, pool=None):
        """`length` bytes of a pool, in pieces of at most 64 KiB from anywhere."""
        pool = pool or self.bytes
        parts = []
        while length > 0:
            size = min(length, 65_536)
            start = self.rng.randrange(len(pool) - size)
            parts.append(pool[start : start + size])
            length -= size
        return b"".join(parts)

    def body(self, kind, size):
        """The contents of an upload of that kind."""
        rng = self.rng
        if kind in PACKED_HEADS:
            head = PACKED_HEADS[kind]
            return head + rng.randbytes(max(0, size - len(head)))
        if kind == "txt":
            return self.cut(size)
        if kind in self.pools:
            return self.cut(size, self.pools[kind])
        out = bytearray(b"%PDF-1.5\n")
        number = 0
        while len(out) < size:  # deflated streams between plain object tables
            number += 1
            stream = rng.choice(self.streams) if number % 3 else rng.randbytes(min(16_384, size))
            out += b"%d 0 obj\n<< /Type /Page /Parent 1 0 R /Length %d " % (number, len(stream))
            out += b"/Filter /FlateDecode >>\nstream\n"
            out += stream + b"\nendstream\nendobj\n"
        return bytes(out[:size])

    def _pool(self, line):
        parts, size = [], 0
        while size < 2 * MB:
            parts.append(line())
            size += len(parts[-1])
        return "".join(parts).encode()

    def _json(self):
        at = stamp(1.7e9 + self.rng.random() * 1e7)
        value = {"id": letters(self.rng), "name": self.phrase(20), "value": self.rng.random()}
        return json.dumps(value | {"at": at}) + ",\n"

    def _svg(self):
        points = " ".join(f"{self.rng.random() * 1000:.2f}" for _ in range(8))
        color, width = self.rng.randrange(1 << 24), self.rng.randrange(9)
        return f'<path d="M{points}" fill="#{color:06x}" stroke-width="{width}"/>\n'

    def _csv(self):
        price = f"{self.rng.random() * 1e4:.2f}"
        return f"{letters(self.rng)},{self.rng.randrange(100_000)},{price},{self.phrase(25)}\n"


def letters(rng, count=15):
    """A record's id."""
    return "".join(rng.choices(ALNUM, k=count))


def stamp(seconds):
    """A time as PocketBase stores it."""
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
        + f".{int(seconds * 1000 % 1000):03d}Z"
    )
