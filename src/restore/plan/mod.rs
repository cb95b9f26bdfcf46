//! What a restore would do, computed and not done: what is in the archive, where it would go
//! and how, what would be lost, and whether it can work at all.
//!
//! The quick plan reads the archive's directory and a few bytes. The deep one also unpacks
//! `data.db` aside, compares it with the present one and looks at every file, within limits.

mod deep;
mod loss;
mod shown;

use std::io::Read;
use std::path::Path;

use crate::archive::{Limits, Outline, Reader};
use crate::backup::Key;
use crate::control::Control;
use crate::data_dir::{AUXILIARY_DB, DATA_DB, DataDir, STORAGE};
use crate::error::{Error, Kind, Result};
use crate::fsx;
use crate::restore::journal::{Journal, Name};
use crate::restore::stage::{SPARE_BYTES, require_idle};
use crate::restore::{Scope, check, places};
use crate::source::bosbase;

pub use shown::{Contents, Loss, Migrations, Part, Plan, RowLoss, Sort};

/// Why an archive of a BosBase is refused here.
const OF_BOSBASE: &str = "The archive is a BosBase's: it has a dump of PostgreSQL and no data.db. \
    Restore it where that database is configured.";

/// How a plan is made.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// What would be restored.
    pub scope: Scope,
    /// Whether the database is unpacked and everything compared, which may take a minute.
    pub deep: bool,
}

/// Plans the restore of the archive in the file `archive`. Blocking. Changes nothing; the deep
/// plan unpacks the archive's database in the state folder for a moment.
///
/// What speaks against the restore is in [`Plan::refused`].
///
/// # Errors
/// [`Kind::NotFound`] when there is no such file or no such `pb_data`; a fault of the disk.
pub fn plan(
    data: &DataDir,
    archive: &Path,
    key: &Key,
    options: &PlanOptions,
    control: &Control,
) -> Result<Plan> {
    let mut plan = computed(data, archive, key, options, control)?;
    // Clients read it, and where things lie on the server's disk is not theirs to know.
    let root = data.root().display().to_string();
    for line in plan.refused.iter_mut().chain(&mut plan.warnings) {
        *line = line.replace(&root, "pb_data");
    }
    Ok(plan)
}

fn computed(
    data: &DataDir,
    archive: &Path,
    key: &Key,
    options: &PlanOptions,
    control: &Control,
) -> Result<Plan> {
    let mut plan = Plan::new(key, options);
    let reader = match Reader::open(archive, &Limits::default()) {
        Err(error) if error.kind() == &Kind::Corrupt => return Ok(plan.refuse(&error)),
        opened => opened?,
    };
    plan.contents.archive_bytes = reader.file_bytes();
    let scope = &options.scope;
    let outline = match reader.outline(&|path| scope.takes(path)) {
        Err(error) if error.kind() == &Kind::Corrupt => return Ok(plan.refuse(&error)),
        outline => outline?,
    };
    plan.contents = contents(&reader, &outline);
    if let Err(error) = require_data(&reader, &outline, scope) {
        return if error.kind() == &Kind::Corrupt { Ok(plan.refuse(&error)) } else { Err(error) };
    }
    if let Err(error) = require_idle(data) {
        return Ok(plan.refuse(&error));
    }
    match parts(data, &outline, scope) {
        Ok(parts) => plan.parts = parts,
        Err(error) if error.kind() == &Kind::Unavailable => return Ok(plan.refuse(&error)),
        Err(error) => return Err(error),
    }
    if let Some(part) = plan.parts.iter().find(|part| !part.fits) {
        let message = format!(
            "The restore needs {} bytes of free disk space in {}, there are {}.",
            part.needed_bytes,
            if part.path.is_empty() { "pb_data" } else { &part.path },
            part.free_bytes
        );
        return Ok(plan.refuse(&Error::new(Kind::NoSpace, message)));
    }
    if options.deep {
        loss::files(data, &outline, scope, &mut plan, control)?;
        if scope.has_databases() {
            deep::databases(data, &reader, &outline, &mut plan, control)?;
        }
    }
    warn(&outline, scope, &mut plan);
    Ok(plan)
}

fn contents(reader: &Reader, outline: &Outline<'_>) -> Contents {
    let has = |name: &str| reader.find(name.as_bytes()).is_some();
    let uploads = reader.entries().iter().any(|entry| {
        entry.path().is_some_and(|path| path.starts_with(format!("{STORAGE}/").as_bytes()))
    });
    let sort = match (has(DATA_DB), uploads || has(AUXILIARY_DB)) {
        (true, _) => Sort::PocketBase,
        (false, true) => Sort::WithoutDatabase,
        (false, false) => Sort::Unknown,
    };
    Contents {
        sort,
        archive_bytes: reader.file_bytes(),
        entries: reader.entries().len() as u64,
        files: outline.files.len() as u64,
        bytes: outline.bytes,
        has_data_db: has(DATA_DB),
        has_auxiliary_db: has(AUXILIARY_DB),
        left_out: outline.skipped.len() as u64,
    }
}

/// Whether it holds a dump of PostgreSQL with a manifest of ours.
fn is_bosbase(reader: &Reader) -> bool {
    [bosbase::DUMP, bosbase::MANIFEST].iter().all(|name| reader.find(name.as_bytes()).is_some())
}

/// What can be told of the databases from the directory and their first bytes.
fn require_data(reader: &Reader, outline: &Outline<'_>, scope: &Scope) -> Result<()> {
    let corrupt = |message: String| Err(Error::new(Kind::Corrupt, message));
    if outline.files.is_empty() && !scope.is_all() {
        return corrupt(format!("The archive holds nothing of {scope}."));
    }
    if !scope.has_databases() {
        return Ok(());
    }
    for name in [DATA_DB, AUXILIARY_DB] {
        let file = |suffix: &str| outline.files.get(format!("{name}{suffix}").as_bytes());
        if file("-journal").is_some() {
            return corrupt(format!("The archive holds a rollback journal ({name}-journal)."));
        }
        let Some(entry) = file("") else {
            if name == DATA_DB {
                return corrupt(match reader.find(DATA_DB.as_bytes()) {
                    Some(_) => format!("The archive's {name} is not a regular file."),
                    None if is_bosbase(reader) => OF_BOSBASE.to_owned(),
                    None => format!("The archive has no {name}."),
                });
            }
            continue;
        };
        let mut first = Vec::new();
        let read =
            reader.open_entry(entry)?.take(check::MAGIC.len() as u64).read_to_end(&mut first);
        if let Err(error) = read {
            return corrupt(format!("The archive's {name} cannot be read: {error}."));
        }
        if first != check::MAGIC {
            return corrupt(format!("The archive's {name} is not a SQLite database."));
        }
    }
    Ok(())
}

/// The places of the folder: what each gets, and whether it has the room.
fn parts(data: &DataDir, outline: &Outline<'_>, scope: &Scope) -> Result<Vec<Part>> {
    let dirs = places::survey_for(data, scope)?;
    let mut parts = Vec::with_capacity(dirs.len());
    for dir in &dirs {
        let live = Journal::live(data, dir);
        require_writable(&live)?;
        let is_root = dir.0.is_empty();
        let copied = !is_root && !places::renames_between(data.root(), &live)?;
        let needed = if is_root {
            outline.room_bytes
        } else if copied {
            below(outline, dir)
        } else {
            0
        };
        let needed_bytes = if needed == 0 { 0 } else { needed.saturating_add(SPARE_BYTES) };
        let free_bytes = fsx::free_bytes(&live)?;
        parts.push(Part {
            path: dir.as_path().to_string_lossy().into_owned(),
            is_mount: copied,
            moved_by: if copied { "copy, then rename" } else { "rename" },
            needed_bytes,
            free_bytes,
            fits: free_bytes >= needed_bytes,
        });
    }
    Ok(parts)
}

fn require_writable(live: &Path) -> Result<()> {
    use rustix::fs::{Access, access};
    access(live, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        Error::new(Kind::Unavailable, format!("cannot write to {}", live.display()))
            .hint("a restore replaces what is in this folder and must be able to write")
            .because(std::io::Error::from(error))
    })
}

/// The bytes of the files below a place.
fn below(outline: &Outline<'_>, dir: &Name) -> u64 {
    let prefix = [dir.0.as_encoded_bytes(), b"/"].concat();
    let files = outline.files.iter().filter(|(path, _)| path.starts_with(&prefix));
    files.map(|(_, entry)| entry.size_bytes()).fold(0, u64::saturating_add)
}

fn warn(outline: &Outline<'_>, scope: &Scope, plan: &mut Plan) {
    let left_out = outline.skipped.len();
    if left_out > 0 {
        plan.warnings
            .push(format!("{left_out} entries are neither files nor folders and are left out."));
    }
    match scope {
        Scope::Databases => plan.warnings.push(
            "Only the databases are replaced: records may name files that are not there, and \
             files may belong to no record."
                .to_owned(),
        ),
        Scope::Files | Scope::Path(_) => plan.warnings.push(
            "The databases stay: records that the archive does not know keep their rows, but \
             not the files that the archive lacks."
                .to_owned(),
        ),
        Scope::All => {}
    }
    if scope.has_databases() && !plan.contents.has_auxiliary_db {
        plan.warnings.push("The archive has no auxiliary.db: the logs begin anew.".to_owned());
    }
}
