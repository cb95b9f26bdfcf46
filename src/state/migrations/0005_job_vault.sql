-- Which vault a job is of: the name of a PostgreSQL database, or nothing for the folder.
ALTER TABLE jobs ADD COLUMN vault TEXT NOT NULL DEFAULT '';
