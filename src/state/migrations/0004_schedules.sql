-- How schedules were kept: one row each. Times are milliseconds since 1970, UTC.
CREATE TABLE schedules (
    name       TEXT    PRIMARY KEY,
    -- Expression and time zone; another one has missed nothing yet.
    expression TEXT    NOT NULL,
    -- The last run that was begun or given up: those after it are still to come.
    looked     INTEGER NOT NULL,
    -- The last run that began: when it was due, when it began and ended.
    due        INTEGER,
    started    INTEGER,
    ended      INTEGER,
    -- running, again (after it was cut off), done, failed, interrupted.
    state      TEXT    NOT NULL DEFAULT '',
    job        INTEGER,
    said       TEXT    NOT NULL DEFAULT '',
    -- Runs that were missed since the run before that, or skipped because one was still running.
    missed     INTEGER NOT NULL DEFAULT 0,
    skipped    INTEGER NOT NULL DEFAULT 0
) STRICT;
