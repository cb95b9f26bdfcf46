"""Turns what was measured into the table of docs/performance.md."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound for the ratio ours/theirs, or for our own value where `of` is `ours`."""

    of: str
    bound: float
    least: bool = False

    def met(self, ratio, ours):
        value = ratio if self.of == "ratio" else ours
        return value >= self.bound if self.least else value <= self.bound

    def __str__(self):
        sign = "≥" if self.least else "≤"
        if self.of == "ours":
            return f"ours {sign} {self.bound:g}"
        whole = f"1/{1 / self.bound:.0f}" if self.bound < 0.4 else f"{self.bound:g}"
        return f"{sign} {whole}"


def _ratio(bound):
    return {"all": Goal("ratio", bound)}


def _ours(bound):
    return {"all": Goal("ours", bound)}


MEMORY = _ours(64)
# Row, number, what it is, and the goals: one for all profiles, or one for each that has one.
LINES = [
    (
        "create",
        "time_s",
        "create: time, s",
        {"medium": Goal("ratio", 1 / 7), "many": Goal("ratio", 1 / 25)},
    ),
    ("create", "durable_s", "create: time until it is on the disk, s", {}),
    ("create", "cpu_s", "create: CPU, s", {"medium": Goal("ratio", 1 / 5)}),
    ("create", "afterwards_cpu_s", "create: CPU after the answer (ours reads it back), s", {}),
    ("create", "archive_mb", "create: archive, MB", _ratio(1.05)),
    ("create", "memory_mib", "create: memory above idle, MiB", MEMORY),
    ("create", "disk_archives", "create: peak of extra disk, archives", _ours(1.02)),
    (
        "create again",
        "time_s",
        "again after 1 % changed: time, s",
        {"medium": Goal("ratio", 1 / 12)},
    ),
    ("create again", "cpu_s", "again after 1 % changed: CPU, s", {}),
    ("writer, SQLite", "idle_p99_ms", "SQLite writer, idle: p99, ms", {}),
    ("writer, SQLite", "during_p50_ms", "SQLite writer, during create: p50, ms", {}),
    ("writer, SQLite", "during_p99_ms", "SQLite writer, during create: p99, ms", {}),
    ("writer, SQLite", "during_p100_ms", "SQLite writer, during create: longest, ms", {}),
    ("writer, SQLite", "p99_ratio", "SQLite writer: p99 during / p99 idle", _ours(1.2)),
    ("writer, SQLite", "failed", "SQLite writer: failed writes", _ours(0)),
    ("writer, API", "idle_p99_ms", "PocketBase API writer, idle: p99, ms", {}),
    ("writer, API", "during_p50_ms", "PocketBase API writer, during create: p50, ms", {}),
    ("writer, API", "during_p99_ms", "PocketBase API writer, during create: p99, ms", {}),
    ("writer, API", "during_p100_ms", "PocketBase API writer, during create: longest, ms", {}),
    ("writer, API", "p99_ratio", "PocketBase API writer: p99 during / p99 idle", _ours(1.2)),
    ("writer, API", "failed", "PocketBase API writer: failed writes", _ours(0)),
    ("restore", "time_s", "restore: from the answer to restored data served, s", _ratio(1 / 3)),
    ("restore", "cpu_s", "restore: CPU, s", {}),
    ("restore", "memory_mib", "restore: memory above idle, MiB", MEMORY),
    ("restore", "longest_gap_s", "restore: longest time without an answer, s", {}),
    ("restore", "refused", "restore: refused or broken requests", {}),
    ("download", "mb_per_s", "download: MB/s", {"all": Goal("ratio", 0.9, least=True)}),
    ("download", "cpu_s_per_gb", "download: CPU s per GB", {}),
    ("download", "memory_mib", "download: memory above idle, MiB", MEMORY),
    ("upload", "time_s", "upload: time, s", _ratio(1 / 2)),
    ("upload", "durable_s", "upload: time until it is on the disk, s", {}),
    ("upload", "cpu_s", "upload: CPU, s", {}),
    ("upload", "memory_mib", "upload: memory above idle, MiB", MEMORY),
    ("upload", "disk_archives", "upload: peak of extra disk, archives", _ours(1.02)),
    ("list", "time_s", "list: time of one answer, s", _ratio(1 / 5)),
    ("list", "cpu_s", "list: CPU of one answer, s", {}),
]


def render(results, profile):
    """The table in Markdown. `results`: one dictionary for each row, side and round."""
    lines = [
        "| work | PocketBase | ours | ours / PocketBase | target | |",
        "|---|---|---|---|---|---|",
    ]
    for row, number, label, goals in LINES:
        theirs, ours = (_values(results, row, number, side) for side in ("theirs", "ours"))
        if not ours and not theirs:
            continue
        ratio = _middle_ratio(theirs, ours)
        # So little data proves only that all of this works.
        goal = goals.get(profile, goals.get("all")) if profile != "tiny" else None
        verdict = ""
        if goal and ours and (goal.of == "ours" or ratio is not None):
            verdict = "reached" if goal.met(ratio, statistics.median(ours.values())) else "missed"
        shown = "" if ratio is None else f"{ratio:.3g}"
        cells = [label, _spread(theirs), _spread(ours), shown, str(goal or ""), verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _values(results, row, number, side):
    """The numbers of one side by round."""
    return {
        r["round"]: r[number]
        for r in results
        if r["row"] == row and r["side"] == side and number in r
    }


def _middle_ratio(theirs, ours):
    """The median of the ratios of the rounds: both sides of a round saw the same weather."""
    ratios = [ours[n] / theirs[n] for n in ours.keys() & theirs.keys() if theirs[n]]
    return statistics.median(ratios) if ratios else None


def _spread(values):
    """The median, and in brackets the least and the greatest."""
    found = sorted(values.values())
    if not found:
        return "–"
    middle = (
        f"{statistics.median(found):.3g}" if found[-1] < 1000 else f"{statistics.median(found):.0f}"
    )
    if found[0] == found[-1]:
        return middle
    ends = [f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in (found[0], found[-1])]
    return f"{middle} ({ends[0]}–{ends[1]})"
