//! A database with one of everything, and texts that say all of it, for comparing.

use super::cluster::{Cluster, PASSWORD};

/// Everything that a dump has to carry.
const EVERYTHING: &str = r#"
CREATE EXTENSION citext; CREATE EXTENSION pg_trgm;
CREATE SCHEMA "odd ""Schema'"; COMMENT ON SCHEMA "odd ""Schema'" IS 'it''s odd';
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS numeric CHECK (value > 0);
CREATE TABLE "odd ""Schema'"."Täble 1" (
    id bigserial PRIMARY KEY, "select" text NOT NULL DEFAULT 'x', name citext UNIQUE, m mood,
    amount positive, doc jsonb, list text[], bytes bytea, at timestamptz,
    twice numeric GENERATED ALWAYS AS (amount * 2) STORED);
INSERT INTO "odd ""Schema'"."Täble 1" ("select", name, m, amount, doc, list, bytes, at)
SELECT repeat('ä\n'';--', i % 7), 'N' || i, CASE i % 3 WHEN 0 THEN 'sad'::mood END, i + 0.5,
    jsonb_build_object('i', i, 'n', NULL), ARRAY['a', NULL, 'b"' || i], decode(md5(i::text), 'hex'),
    timestamptz '2026-11-21 09:00+01' + i * interval '1 s' FROM generate_series(1, 20000) i;
CREATE INDEX partial ON "odd ""Schema'"."Täble 1" (amount) WHERE m = 'sad';
CREATE INDEX trigrams ON "odd ""Schema'"."Täble 1" USING gin ("select" gin_trgm_ops);
CREATE TABLE empty (id int PRIMARY KEY, parent int REFERENCES empty DEFERRABLE);
CREATE TABLE nothing ();
CREATE TABLE parts (id int, at date, CHECK (id > 0)) PARTITION BY RANGE (at);
CREATE TABLE parts_2025 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parts_2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO parts SELECT i, date '2025-06-01' + i FROM generate_series(1, 500) i;
CREATE SEQUENCE counter INCREMENT 7 START 100; SELECT nextval('counter'), nextval('counter');
CREATE VIEW "a view" AS SELECT id, name FROM "odd ""Schema'"."Täble 1" WHERE m IS NOT NULL;
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM parts;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN NEW.id := NEW.id; RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE INSERT ON empty FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE empty ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON empty USING (id > 0);
CREATE PUBLICATION news FOR TABLE parts WITH (publish = 'insert');
SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 3000), 'hex')) FROM generate_series(1, 3) i;
"#;

/// Every table's rows, and the definitions of everything, one line each.
const CONTENTS: &str = r#"
SET search_path TO pg_catalog;
SELECT 'rows', format('%I.%I', nspname, relname), (xpath('//x/text()', query_to_xml(format(
    'SELECT count(*) || md5(coalesce(string_agg(t::text, chr(10)
        ORDER BY t::text COLLATE "C"), '''')) AS x FROM %I.%I t',
    nspname, relname), false, true, '')))[1]
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'm')
    AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 2;
SELECT 'sequence', sequencename, last_value, increment_by FROM pg_sequences ORDER BY 2;
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' ORDER BY 2;
SELECT 'view', viewname, definition FROM pg_views WHERE schemaname !~ '^pg_|^inf' ORDER BY 2;
SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace::regnamespace::text !~ '^pg_|^inf' ORDER BY conrelid::regclass::text, 3;
SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 2;
SELECT 'policy', polname, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 2;
SELECT 'extension', extname, extversion FROM pg_extension ORDER BY 2;
SELECT 'publication', pubname FROM pg_publication ORDER BY 2;
SELECT 'large object', md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY 2;
SELECT 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE attnum > 0 AND relnamespace::regnamespace::text !~ '^pg_|^inf' AND NOT attisdropped
    ORDER BY attrelid::regclass::text, attnum;
SELECT 'owner', c.oid::regclass, pg_get_userbyid(relowner), relacl FROM pg_class c
    WHERE relnamespace::regnamespace::text !~ '^pg_|^inf' ORDER BY c.oid::regclass::text;
"#;

/// What a database is besides its contents.
const FACTS: &str = "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, \
    datctype, datconnlimit, datallowconn, shobj_description(oid, 'pg_database'), \
    (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a) \
    FROM pg_database WHERE datname = current_database(); \
    SELECT (SELECT rolname FROM pg_roles WHERE oid = setrole), c FROM pg_db_role_setting, \
    unnest(setconfig) c WHERE setdatabase = (SELECT oid FROM pg_database \
    WHERE datname = current_database()) ORDER BY 1, 2";

/// Fills a database with one of everything, owned by a role with an odd name.
pub(crate) fn fill(cluster: &Cluster, database: &str) {
    let password = PASSWORD.replace('\'', "''");
    cluster.sql(
        "postgres",
        &format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'my \"role\"') THEN
                 CREATE ROLE \"my \"\"role\"\"\" LOGIN PASSWORD '{password}'; CREATE ROLE app;
             END IF; END $$;
             ALTER DATABASE \"{database}\" OWNER TO \"my \"\"role\"\"\";
             ALTER DATABASE \"{database}\" SET work_mem TO '7MB';
             ALTER DATABASE \"{database}\" SET search_path
                 TO \"$user\", \"odd \"\"Schema'\", public;
             ALTER DATABASE \"{database}\" SET my.setting TO 'it''s \\ mine';
             ALTER ROLE app IN DATABASE \"{database}\" SET statement_timeout TO '5s';
             COMMENT ON DATABASE \"{database}\" IS 'the ledger''s';
             REVOKE CONNECT ON DATABASE \"{database}\" FROM PUBLIC;
             GRANT CREATE ON DATABASE \"{database}\" TO app WITH GRANT OPTION;
             ALTER DATABASE \"{database}\" CONNECTION LIMIT 40;"
        ),
    );
    cluster.sql(database, EVERYTHING);
    cluster.sql(
        database,
        "ALTER TABLE parts OWNER TO \"my \"\"role\"\"\"; GRANT SELECT ON empty TO app;",
    );
}

/// All that is in a database, as text.
pub(crate) fn contents(cluster: &Cluster, database: &str) -> String {
    cluster.sql(database, CONTENTS)
}

/// All that a database is besides, as text.
pub(crate) fn facts(cluster: &Cluster, database: &str) -> String {
    cluster.sql(database, FACTS)
}
