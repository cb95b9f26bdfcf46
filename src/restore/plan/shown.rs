//! A plan as it is shown: JSON with names in camel case, or lines of text.

use std::fmt;

use serde::Serialize;

use crate::backup::Key;
use crate::error::Error;
use crate::restore::plan::PlanOptions;

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The backup.
    pub key: String,
    /// What would be restored: `all`, `databases`, `files` or a path.
    pub only: String,
    /// Whether the database was looked into and everything compared.
    pub deep: bool,
    /// What is in the archive.
    pub contents: Contents,
    /// The places of `pb_data`, the folder itself first.
    pub parts: Vec<Part>,
    /// The migrations of both sides; only in a deep plan.
    pub migrations: Option<Migrations>,
    /// What would be gone; only in a deep plan.
    pub loss: Option<Loss>,
    /// What somebody should know who restores this.
    pub warnings: Vec<String>,
    /// Why it cannot work.
    pub refused: Option<String>,
}

/// What kind of archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    /// With a `data.db`: PocketBase's or ours.
    PocketBase,
    /// Files of a `pb_data` without its database, as BosBase makes it on PostgreSQL.
    WithoutDatabase,
    /// Anything else.
    Unknown,
}

/// What is in an archive. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// What kind of archive it is.
    pub sort: Sort,
    /// Size of the archive.
    pub archive_bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// Files that would be restored.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Whether it has a `data.db`.
    pub has_data_db: bool,
    /// Whether it has an `auxiliary.db`.
    pub has_auxiliary_db: bool,
    /// Entries that are neither file nor folder.
    pub left_out: u64,
}

/// One place: `pb_data` itself, or a folder below it that cannot be renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its path inside of `pb_data`, empty for the folder itself.
    pub path: String,
    /// Whether it lies on another mount than `pb_data`.
    pub is_mount: bool,
    /// How new data gets there: `rename`, or `copy, then rename`.
    pub moved_by: &'static str,
    /// Room that the restore needs there, in bytes.
    pub needed_bytes: u64,
    /// Room that there is.
    pub free_bytes: u64,
    /// Whether it suffices.
    pub fits: bool,
}

/// Applied migrations, by the names of their files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrations {
    /// How many the archive has.
    pub archive: usize,
    /// How many the present data has.
    pub present: usize,
    /// The newest one of the archive.
    pub newest: Option<String>,
    /// Those that only the archive has: the program must know what they made.
    pub only_in_archive: Vec<String>,
    /// Those that only the present data has: they run again at the next start of PocketBase.
    pub only_present: Vec<String>,
}

/// What would be gone after the restore, and only an undo would bring back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// Files that the archive does not have.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that have another size in the archive.
    pub files_changed: u64,
    /// Some of those files, by path.
    pub examples: Vec<String>,
    /// Collections whose rows differ.
    pub collections: Vec<RowLoss>,
    /// Whether everything was counted, or the time for it was over before.
    pub complete: bool,
}

/// What one collection would lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowLoss {
    /// Its name.
    pub name: String,
    /// Its rows now.
    pub rows: u64,
    /// Its rows in the archive; `None` when the archive does not have it.
    pub rows_in_archive: Option<u64>,
    /// Rows that the archive does not have.
    pub lost: u64,
    /// Rows that were changed since.
    pub changed: u64,
}

impl Plan {
    pub(super) fn new(key: &Key, options: &PlanOptions) -> Self {
        Self {
            key: key.to_string(),
            only: options.scope.to_string(),
            deep: options.deep,
            contents: Contents {
                sort: Sort::Unknown,
                archive_bytes: 0,
                entries: 0,
                files: 0,
                bytes: 0,
                has_data_db: false,
                has_auxiliary_db: false,
                left_out: 0,
            },
            parts: Vec::new(),
            migrations: None,
            loss: None,
            warnings: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn refuse(mut self, error: &Error) -> Self {
        self.refused = Some(error.message().to_owned());
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = &self.contents;
        writeln!(f, "Restore of {} ({})", self.key, self.only)?;
        writeln!(
            f,
            "  archive      {} files, {} bytes unpacked, {} bytes packed",
            contents.files, contents.bytes, contents.archive_bytes
        )?;
        for part in &self.parts {
            let path = if part.path.is_empty() { "pb_data" } else { &part.path };
            let (needed, free) = (part.needed_bytes, part.free_bytes);
            let how = part.moved_by;
            writeln!(f, "  place        {path}: by {how}; needs {needed} bytes of {free} free")?;
        }
        if let Some(migrations) = &self.migrations {
            let newest = migrations.newest.as_deref().unwrap_or("none");
            writeln!(f, "  migrations   {} in the archive, newest {newest}", migrations.archive)?;
        }
        if let Some(loss) = &self.loss {
            let whole = if loss.complete { "" } else { " (not all were counted)" };
            writeln!(
                f,
                "  would go     {} files ({} bytes), {} files change{whole}",
                loss.files, loss.bytes, loss.files_changed
            )?;
            for path in &loss.examples {
                writeln!(f, "               {path}")?;
            }
            for rows in &loss.collections {
                let (name, lost, changed) = (&rows.name, rows.lost, rows.changed);
                writeln!(
                    f,
                    "               {name}: {lost} of {} rows, {changed} older",
                    rows.rows
                )?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "  warning      {warning}")?;
        }
        match &self.refused {
            Some(reason) => writeln!(f, "  REFUSED      {reason}"),
            None => writeln!(f, "  can be restored"),
        }
    }
}
