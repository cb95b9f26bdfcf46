-- Tokens of our API; their text is nowhere. Times are milliseconds since 1970, UTC.
CREATE TABLE tokens (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT    NOT NULL,
    -- SHA-256 of the text.
    hash    BLOB    NOT NULL UNIQUE,
    -- Words with commas between them.
    scopes  TEXT    NOT NULL,
    -- pb_data, or the name of a PostgreSQL database; all without it.
    vault   TEXT,
    created INTEGER NOT NULL,
    expires INTEGER,
    used    INTEGER
) STRICT;

-- Who did what, and what became of it.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    time    INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    address TEXT    NOT NULL,
    action  TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    -- The status of the answer.
    status  INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_time ON audit (time);
