-- Backups that were asked for and are made when their turn comes, each with an id of its own.
-- Times are milliseconds since 1970, UTC.
CREATE TABLE orders (
    -- 24 hexadecimal digits.
    id      TEXT    PRIMARY KEY,
    -- A [[database]]; empty for the pb_data folder.
    target  TEXT    NOT NULL,
    method  TEXT    NOT NULL,
    -- waiting, running, done, failed.
    state   TEXT    NOT NULL,
    key     TEXT,
    placed  INTEGER NOT NULL,
    started INTEGER
) STRICT;
CREATE INDEX orders_by_target ON orders (target, placed);

-- When a backup is ordered each day: one row per target.
CREATE TABLE daily_orders (
    target  TEXT    PRIMARY KEY,
    enabled INTEGER NOT NULL,
    -- The hour of the day, UTC.
    hour    INTEGER NOT NULL,
    -- Up to when the hours that struck were looked at.
    looked  INTEGER NOT NULL
) STRICT;
