-- What is known about each backup, by the place where it is kept. A row is about the object of
-- exactly this size; one of another size under the same key is somebody else's.
-- Times are milliseconds since 1970, UTC.
CREATE TABLE backups (
    destination TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    made        INTEGER NOT NULL,
    -- made (by us), uploaded, or found (we only looked at it).
    origin      TEXT    NOT NULL,
    job         INTEGER,
    method      TEXT    NOT NULL,
    label       TEXT    NOT NULL DEFAULT '',
    complete    INTEGER NOT NULL,
    -- Files that records name and that are not there.
    missing     INTEGER NOT NULL DEFAULT 0,
    -- Whether anything else is lost: unreadable or damaged.
    worse       INTEGER NOT NULL DEFAULT 0,
    sha256      TEXT,
    pinned      INTEGER NOT NULL DEFAULT 0,
    -- The last proof: read or drill, how it ended, what was wrong or counted.
    proof_kind  TEXT,
    proof_at    INTEGER,
    proof_ok    INTEGER,
    proof_said  TEXT,
    PRIMARY KEY (destination, key)
) STRICT;

-- Small facts that outlive the process: when something ran last.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
