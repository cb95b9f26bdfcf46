-- What the vault did: one row per job. Times are milliseconds since 1970, UTC.
CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY,
    kind             TEXT    NOT NULL,
    method           TEXT    NOT NULL,
    key              TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    step             TEXT    NOT NULL,
    bytes            INTEGER NOT NULL,
    bytes_estimate   INTEGER NOT NULL,
    entries          INTEGER NOT NULL,
    entries_estimate INTEGER NOT NULL,
    message          TEXT,
    hint             TEXT,
    notes            TEXT    NOT NULL,
    complete         INTEGER NOT NULL,
    started          INTEGER NOT NULL,
    ended            INTEGER,
    -- The restore in the journal that gives the verdict over this job after the restart.
    restore_id       TEXT,
    -- Ascending with every change of any job, also across restarts.
    revision         INTEGER NOT NULL
) STRICT;
