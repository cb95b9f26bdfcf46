//! Reading dumps: their table of contents, and the whole of them.

use std::ffi::OsString;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::AsyncReadExt;

use crate::control::Control;
use crate::error::{Context, Error, Kind, Result};
use crate::source::postgres::Postgres;
use crate::source::postgres::child::{Pipes, Running, guarded};
use crate::source::postgres::dump::{Dumped, Sum, failed, feed};
use crate::source::postgres::programs::{Programs, parse_version};

/// Largest table of contents that is read, in bytes.
const OUTLINE_BYTES_MAX: u64 = 256 << 20;

/// The bytes of a stored dump.
pub type Reader = BoxStream<'static, Result<Bytes>>;

/// What a dump says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The version of the server that was dumped, as `server_version_num` counts.
    pub server_version: u32,
    /// The version of the `pg_dump` that wrote it.
    pub dump_version: u32,
    /// The database that was dumped.
    pub database: String,
    /// How many tables it defines.
    pub tables: u64,
    /// The lines of its table of contents.
    lines: Vec<String>,
}

impl Outline {
    /// Parses what `pg_restore --list` prints.
    fn parse(text: &str) -> Self {
        let mut outline = Self::default();
        for line in text.lines() {
            let Some(comment) = line.strip_prefix(';') else {
                outline.lines.push(line.to_owned());
                continue;
            };
            let comment = comment.trim();
            if let Some(version) = comment.strip_prefix("Dumped from database version:") {
                outline.server_version = parse_version(version).unwrap_or(0);
            } else if let Some(version) = comment.strip_prefix("Dumped by pg_dump version:") {
                outline.dump_version = parse_version(version).unwrap_or(0);
            } else if let Some(name) = comment.strip_prefix("dbname: ") {
                outline.database = name.to_owned();
            }
        }
        let is_table = |line: &&String| what(line).is_some_and(is_table);
        outline.tables = outline.lines.iter().filter(is_table).count() as u64;
        outline
    }

    /// Whether every owner that it names is one of `roles`. Lines end with their owner, and
    /// names may hold spaces: each end of the line is tried.
    pub fn owners_are_among(&self, roles: &[String]) -> bool {
        self.lines.iter().all(|line| {
            line.is_empty()
                || line.ends_with(' ')
                || roles.iter().any(|role| {
                    line.strip_suffix(role.as_str()).is_some_and(|rest| rest.ends_with(' '))
                })
        })
    }
}

/// What a line is about: all after its three numbers.
fn what(line: &str) -> Option<&str> {
    line.split_once("; ").and_then(|(_, rest)| rest.splitn(3, ' ').nth(2))
}

fn is_table(what: &str) -> bool {
    what.starts_with("TABLE ")
        && !what.starts_with("TABLE DATA ")
        && !what.starts_with("TABLE ATTACH ")
}

impl Postgres {
    /// The table of contents of a dump. Only its beginning is read.
    ///
    /// # Errors
    /// [`Kind::Corrupt`]: it is no dump in the custom format; what the stream says.
    pub async fn outline(
        &self,
        programs: &Programs,
        reader: Reader,
        control: &Control,
    ) -> Result<Outline> {
        guarded(control, self.timeout(), self.list(programs, reader)).await
    }

    async fn list(&self, programs: &Programs, mut reader: Reader) -> Result<Outline> {
        let program = programs.folder.join("pg_restore");
        let arguments = ["--list".into()];
        let mut listing = Running::start(&program, &arguments, self.target(), Pipes::Both)?;
        let mut output = listing.stdout()?.take(OUTLINE_BYTES_MAX);
        let mut into = Some(listing.stdin()?);
        let mut text = Vec::new();
        let reading = output.read_to_end(&mut text);
        let feeding = async {
            while into.is_some() {
                let Some(block) = reader.next().await else { break };
                feed(&mut into, &block?).await?;
            }
            drop(into);
            Ok::<_, Error>(())
        };
        let (read, fed) = tokio::join!(reading, feeding);
        fed?;
        read.context("cannot read from pg_restore")?;
        let ended = listing.wait().await?;
        if !ended.is_well() {
            return Err(not_a_dump().because(ended.said));
        }
        Ok(Outline::parse(&String::from_utf8_lossy(&text)))
    }

    /// Reads a whole dump: its sum, and whether `pg_restore` understands all of it.
    ///
    /// # Errors
    /// [`Kind::Corrupt`], [`Kind::Cancelled`], what the stream says.
    pub async fn read_whole(
        &self,
        programs: &Programs,
        reader: Reader,
        control: &Control,
    ) -> Result<Dumped> {
        let arguments = ["--file=/dev/null".into()];
        let reading = self.pour(programs, &arguments, reader, Kind::Corrupt, control);
        guarded(control, self.timeout(), reading).await
    }

    /// Gives a dump to `pg_restore`; its sum. `otherwise` is the kind of failures that say
    /// nothing to us.
    pub(super) async fn pour(
        &self,
        programs: &Programs,
        arguments: &[OsString],
        mut reader: Reader,
        otherwise: Kind,
        control: &Control,
    ) -> Result<Dumped> {
        let program: &Path = &programs.folder.join("pg_restore");
        let mut restore = Running::start(program, arguments, self.target(), Pipes::In)?;
        let mut into = Some(restore.stdin()?);
        let mut sum = Sum::default();
        while let Some(block) = reader.next().await {
            let block = block?;
            sum.add(&block);
            control.add_bytes(block.len() as u64);
            feed(&mut into, &block).await?;
        }
        drop(into);
        let ended = restore.wait().await?;
        if !ended.is_well() {
            return Err(failed(&ended, otherwise));
        }
        Ok(sum.finish())
    }
}

fn not_a_dump() -> Error {
    Error::new(Kind::Corrupt, "The backup is not a dump in PostgreSQL's custom format.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = ";\n; Archive created at 2026-11-21 16:00:00 UTC\n;     dbname: my db\n\
        ;     Dumped from database version: 15.18 (Debian 15.18-0+deb12u1)\n\
        ;     Dumped by pg_dump version: 16.1\n;\n\
        5; 2615 2200 SCHEMA - TABLE postgres\n\
        2; 3079 16384 EXTENSION - citext \n\
        214; 1259 16385 TABLE public accounts my role\n\
        215; 1259 16386 TABLE ledger entries app\n\
        3300; 0 0 TABLE ATTACH public part app\n\
        3360; 0 16385 TABLE DATA public accounts my role\n\
        3361; 0 0 SEQUENCE SET public s app\n";

    #[test]
    fn an_outline_is_understood() {
        let outline = Outline::parse(LISTED);
        assert_eq!((outline.server_version, outline.dump_version), (150_018, 160_001));
        assert_eq!((outline.database.as_str(), outline.tables), ("my db", 2));
        let among = |names: &[&str]| {
            let roles: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            outline.owners_are_among(&roles)
        };
        assert!(among(&["postgres", "app", "my role"]));
        assert!(!among(&["postgres", "app"]));
        assert!(!among(&["postgres", "my role"]));
    }
}
