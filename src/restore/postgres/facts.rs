//! What a database is besides its contents: owner, encoding, locale, settings, privileges,
//! comment. None of it is in a dump of its own, and a fresh database gets all of it.

use serde_json::Value;
use sqlx::postgres::PgConnection;

use crate::error::{Context, Error, Result};
use crate::source::postgres::{execute, ident, literal, query_one, query_texts};

/// Settings whose value is a list of names: only the server itself can pass those on.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Everything about one database, in a row of text: the columns of `pg_database` differ from
/// version to version.
const ROW: &str = "SELECT (to_jsonb(d) || jsonb_build_object(
        'owner', pg_get_userbyid(d.datdba),
        'charset', pg_encoding_to_char(d.encoding),
        'space', (SELECT spcname FROM pg_tablespace WHERE oid = d.dattablespace),
        'comment', shobj_description(d.oid, 'pg_database'),
        'bytes', pg_database_size(d.oid),
        'numeric_oid', d.oid::int8,
        'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
        'createdb', (SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user),
        'owns', pg_has_role(current_user, d.datdba, 'USAGE')
    ))::text FROM pg_database d WHERE d.datname = current_database()";

/// `role<0x1f>name=value`, one per setting; an empty role is everybody.
const SETTINGS: &str = "SELECT concat(
        (SELECT rolname FROM pg_roles WHERE oid = s.setrole), chr(31), setting)
    FROM pg_db_role_setting s, unnest(s.setconfig) AS setting
    WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY 1";

/// Statements' tails that give the privileges anew; an empty grantee is everybody.
const PRIVILEGES: &str = "SELECT concat(privilege_type, chr(31),
        (SELECT rolname FROM pg_roles WHERE oid = grantee), chr(31), is_grantable)
    FROM pg_database d, aclexplode(d.datacl)
    WHERE d.datname = current_database() ORDER BY 1";

/// What is known of the live database and of who asks.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    row: Value,
    settings: Vec<String>,
    privileges: Option<Vec<String>>,
}

impl Facts {
    /// Asks the database of the connection.
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let row: String = query_one(connection, ROW).await?;
        let row: Value = serde_json::from_str(&row).context("a database is strange")?;
        let settings = query_texts(connection, SETTINGS).await?;
        let privileges = match row["datacl"].is_null() {
            true => None,
            false => Some(query_texts(connection, PRIVILEGES).await?),
        };
        Ok(Self { row, settings, privileges })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.row[name].as_str()
    }

    fn is(&self, name: &str) -> bool {
        self.row[name] == Value::Bool(true)
    }

    /// Its number on the server, which a rename does not change.
    pub(super) fn oid(&self) -> i64 {
        self.row["numeric_oid"].as_i64().unwrap_or_default()
    }

    /// Its size on the server's disk, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.row["bytes"].as_u64().unwrap_or_default()
    }

    /// Whether the role may do everything.
    pub(super) fn is_superuser(&self) -> bool {
        self.is("superuser")
    }

    /// Why the role may not make, rename and drop such a database; `None` when it may.
    pub(super) fn why_not_rename(&self) -> Option<&'static str> {
        if self.is_superuser() {
            return None;
        }
        if !self.is("createdb") {
            return Some("the role may not create databases");
        }
        (!self.is("owns")).then_some("the role does not own the database")
    }

    /// The statement that makes a database like this one.
    pub(super) fn create(&self, name: &str) -> String {
        let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", ident(name));
        let mut add = |words: &str, value: Option<&str>| {
            if let Some(value) = value {
                sql.push_str(&format!(" {words} {}", literal(value)));
            }
        };
        add("ENCODING", self.text("charset"));
        add("LC_COLLATE", self.text("datcollate"));
        add("LC_CTYPE", self.text("datctype"));
        // 15 and 16 call it daticulocale, 17 datlocale.
        let locale = self.text("datlocale").or_else(|| self.text("daticulocale"));
        match self.text("datlocprovider") {
            Some("i") => {
                add("ICU_LOCALE", locale);
                add("ICU_RULES", self.text("daticurules"));
                sql.push_str(" LOCALE_PROVIDER icu");
            }
            Some("b") => {
                add("BUILTIN_LOCALE", locale);
                sql.push_str(" LOCALE_PROVIDER builtin");
            }
            _ => {}
        }
        for (words, name) in [("OWNER", self.text("owner")), ("TABLESPACE", self.text("space"))] {
            if let Some(name) = name {
                sql.push_str(&format!(" {words} {}", ident(name)));
            }
        }
        sql
    }

    /// Gives a database what is not part of its making. The connection is to any database.
    pub(super) async fn pass_on(&self, connection: &mut PgConnection, name: &str) -> Result<()> {
        for setting in &self.settings {
            self.pass_setting(connection, name, setting).await?;
        }
        for sql in self.others(name) {
            execute(connection, &sql).await?;
        }
        Ok(())
    }

    async fn pass_setting(
        &self,
        connection: &mut PgConnection,
        name: &str,
        setting: &str,
    ) -> Result<()> {
        let strange = || Error::internal("a setting of the database is strange");
        let (role, setting) = setting.split_once('\u{1f}').ok_or_else(strange)?;
        let (variable, value) = setting.split_once('=').ok_or_else(strange)?;
        let whom = match role {
            "" => format!("ALTER DATABASE {}", ident(name)),
            role => format!("ALTER ROLE {} IN DATABASE {}", ident(role), ident(name)),
        };
        // Names of settings with a dot have two parts.
        let parts: Vec<String> = variable.split('.').map(ident).collect();
        let parts = parts.join(".");
        if LISTS.contains(&variable) {
            let set = format!(
                "BEGIN; SELECT set_config({}, {}, true); {whom} SET {parts} FROM CURRENT; COMMIT",
                literal(variable),
                literal(value)
            );
            return execute(connection, &set).await;
        }
        execute(connection, &format!("{whom} SET {parts} TO {}", literal(value))).await
    }

    /// The statements for privileges, comment and the limit of connections.
    fn others(&self, name: &str) -> Vec<String> {
        let database = ident(name);
        let mut sql = Vec::new();
        if let Some(privileges) = &self.privileges {
            sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
            if let Some(owner) = self.text("owner") {
                sql.push(format!("REVOKE ALL ON DATABASE {database} FROM {}", ident(owner)));
            }
            for privilege in privileges {
                let mut parts = privilege.split('\u{1f}');
                let mut next = || parts.next().unwrap_or_default();
                let (what, whom, grantable) = (next(), next(), next());
                let whom = if whom.is_empty() { "PUBLIC".to_owned() } else { ident(whom) };
                let option = if grantable == "t" { " WITH GRANT OPTION" } else { "" };
                sql.push(format!("GRANT {what} ON DATABASE {database} TO {whom}{option}"));
            }
        }
        if let Some(comment) = self.text("comment") {
            sql.push(format!("COMMENT ON DATABASE {database} IS {}", literal(comment)));
        }
        if let Some(limit) = self.row["datconnlimit"].as_i64().filter(|limit| *limit >= 0) {
            sql.push(format!("ALTER DATABASE {database} CONNECTION LIMIT {limit}"));
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(row: Value) -> Facts {
        Facts { row, settings: Vec::new(), privileges: None }
    }

    #[test]
    fn a_database_is_made_like_the_other() {
        let facts = facts(json!({
            "charset": "UTF8", "datcollate": "C", "datctype": "de_DE.UTF-8", "owner": "my role",
            "space": "pg_default", "datlocprovider": "i", "daticulocale": "de",
        }));
        assert_eq!(
            facts.create("a\"b"),
            "CREATE DATABASE \"a\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' \
             LC_CTYPE 'de_DE.UTF-8' ICU_LOCALE 'de' LOCALE_PROVIDER icu OWNER \"my role\" \
             TABLESPACE \"pg_default\""
        );
    }

    #[test]
    fn who_may_rename() {
        let may = |superuser, createdb, owns| {
            let row = json!({"superuser": superuser, "createdb": createdb, "owns": owns});
            facts(row).why_not_rename().is_none()
        };
        assert!(may(true, false, false) && may(false, true, true));
        assert!(!may(false, false, true) && !may(false, true, false));
    }

    #[test]
    fn privileges_are_given_anew() {
        let mut facts = facts(json!({"owner": "o", "comment": "it's", "datconnlimit": -1}));
        let given = ["CONNECT\u{1f}\u{1f}f", "CREATE\u{1f}r\u{1f}t"];
        facts.privileges = Some(given.map(str::to_owned).to_vec());
        assert_eq!(
            facts.others("d"),
            [
                "REVOKE ALL ON DATABASE \"d\" FROM PUBLIC",
                "REVOKE ALL ON DATABASE \"d\" FROM \"o\"",
                "GRANT CONNECT ON DATABASE \"d\" TO PUBLIC",
                "GRANT CREATE ON DATABASE \"d\" TO \"r\" WITH GRANT OPTION",
                "COMMENT ON DATABASE \"d\" IS 'it''s'",
            ]
        );
    }
}
