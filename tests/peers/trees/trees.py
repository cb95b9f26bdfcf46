"""Reads archives as Python's zipfile does; the same commands as trees.go."""

import hashlib
import sys
import zipfile
from pathlib import Path


def raw(info):
    """The name as bytes: without the flag for UTF-8 Python takes it for code page 437."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")


def main():
    command, *rest = sys.argv[1:]
    for path in rest if command == "list" else rest[1:]:
        with zipfile.ZipFile(path) as archive:
            if command == "extract":
                archive.extractall(Path(rest[0]) / Path(path).stem)
                continue
            print("==")
            for info in archive.infolist():
                content = archive.read(info)
                print(raw(info).hex(), len(content), hashlib.sha256(content).hexdigest())


main()
