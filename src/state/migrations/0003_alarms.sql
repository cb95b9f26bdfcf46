-- What is in trouble, as far as somebody was told. Times are milliseconds since 1970, UTC.
CREATE TABLE alarms (
    -- What it is about: backup, schedule, age, proof, prune.
    condition TEXT    PRIMARY KEY,
    since     INTEGER NOT NULL,
    -- When it was told last.
    told      INTEGER NOT NULL
) STRICT;

-- How far the watcher has looked: one row.
CREATE TABLE alarm_watch (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- The revision of the last change of a job.
    revision   INTEGER NOT NULL,
    -- The schedule that was looked at, and up to when its runs were found.
    expression TEXT    NOT NULL,
    looked     INTEGER NOT NULL,
    -- When the last good backup ended; when the watch began, if there is none.
    good       INTEGER NOT NULL
) STRICT;

-- News on its way to somebody.
CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT    NOT NULL,
    note    TEXT    NOT NULL,
    made    INTEGER NOT NULL
) STRICT;
