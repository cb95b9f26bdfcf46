//! What runs by the clock: the tables `[[schedule]]` of the file, which is followed while the
//! server runs.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::config::{FILE_DEFAULT, FileOptions, FolderOptions, absolute};
use crate::cron::named;
use crate::cron::zoned::Zoned;
use crate::error::{Error, Kind, Result};

use super::restore::duration;

/// Longest name of a schedule, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Longest label, in characters.
const LABEL_CHARS_MAX: usize = 200;
/// Longest jitter: a day.
const JITTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Percentage of the backups that a `verify` reads unless told otherwise.
const PERCENT_DEFAULT: u8 = 10;

/// One table of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScheduleTable {
    name: String,
    cron: String,
    timezone: Option<String>,
    #[serde(default)]
    what: WhatWord,
    percent: Option<u8>,
    database: Option<String>,
    label: Option<String>,
    jitter: Option<String>,
    catch_up: Option<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WhatWord {
    #[default]
    Backup,
    Verify,
    Drill,
    Prune,
}

/// What a schedule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Makes a backup of the folder.
    Backup,
    /// Makes a dump of this PostgreSQL database.
    Dump(String),
    /// Reads so many of a hundred backups again, those first that were read longest ago.
    Verify(u8),
    /// Restores the newest good backup into a scratch folder and looks at it.
    Drill,
    /// Removes what the rules of `[retention]` no longer keep.
    Prune,
    /// PocketBase's own automatic backup, as its settings say.
    Automatic,
}

impl What {
    /// The word in the file and in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Backup | Self::Dump(_) | Self::Automatic => "backup",
            Self::Verify(_) => "verify",
            Self::Drill => "drill",
            Self::Prune => "prune",
        }
    }

    /// Whether a backup of the folder comes of it.
    pub fn is_backup(&self) -> bool {
        matches!(self, Self::Backup | Self::Automatic)
    }
}

/// A schedule, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleConfig {
    /// Its name: `[a-z0-9_-]`, unique.
    pub name: String,
    /// When it runs.
    pub when: Zoned,
    /// What it does.
    pub what: What,
    /// What backups of it are called.
    pub label: String,
    /// Each run begins up to so much later, by chance: many servers do not begin at once.
    pub jitter: Duration,
    /// Whether a run that was missed is made up for, once, as soon as it can be.
    pub catch_up: bool,
}

/// The schedules of the file, and the file.
#[derive(Debug, Clone)]
pub struct Schedules {
    /// Those at the start.
    pub list: Vec<ScheduleConfig>,
    /// Where they come from.
    pub file: ScheduleFile,
}

/// The file, followed.
#[derive(Debug, Clone)]
pub struct ScheduleFile {
    path: PathBuf,
    is_named: bool,
    databases: Vec<String>,
    seen: Option<Stamp>,
}

/// What tells one state of a file from another: when it was changed, its size, its inode.
type Stamp = (i64, i64, u64, u64);

impl Schedules {
    /// Checks the tables of the file `named`, or of the default one.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with the schedule's name and what is wrong.
    pub(super) fn resolve(
        tables: Vec<ScheduleTable>,
        named: Option<&Path>,
        databases: Vec<String>,
    ) -> Result<Self> {
        let path = absolute(named.unwrap_or(Path::new(FILE_DEFAULT)))?;
        let list = resolve(tables, Some(&databases))?;
        let seen = stamp(&path);
        Ok(Self { list, file: ScheduleFile { path, is_named: named.is_some(), databases, seen } })
    }
}

impl ScheduleFile {
    /// The schedules, if the file was changed since the last look. One that cannot be used is
    /// told once, and what was before goes on.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn changed(&mut self) -> Result<Option<Vec<ScheduleConfig>>> {
        let stamp = stamp(&self.path);
        if stamp == self.seen {
            return Ok(None);
        }
        self.seen = stamp;
        // An editor may put the new file in the place of the old one in two steps.
        if stamp.is_none() && self.is_named {
            return Err(Error::new(Kind::NotFound, "the configuration is gone")
                .hint("the schedules are those of before"));
        }
        let file = match stamp {
            Some(_) => FileOptions::read(Some(&self.path))?,
            None => FileOptions::default(),
        };
        resolve(file.schedule, Some(&self.databases)).map(Some)
    }
}

/// The schedules of the file, for a command without a server.
///
/// # Errors
/// As [`crate::config::Config::serve`].
pub fn schedules(options: &FolderOptions) -> Result<Vec<ScheduleConfig>> {
    // Whether its databases are there is found out where they are needed.
    let file = FileOptions::read(options.config.as_deref())?;
    resolve(file.schedule, None)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

fn resolve(
    tables: Vec<ScheduleTable>,
    databases: Option<&[String]>,
) -> Result<Vec<ScheduleConfig>> {
    let mut names = BTreeSet::new();
    let mut resolved = Vec::new();
    for table in tables {
        let found = table.resolve(databases)?;
        if !names.insert(found.name.clone()) {
            return Err(unusable(&found.name, "the name is given twice"));
        }
        resolved.push(found);
    }
    Ok(resolved)
}

impl ScheduleTable {
    fn resolve(self, databases: Option<&[String]>) -> Result<ScheduleConfig> {
        let name = self.name;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(unusable(&name, "the name is not made of a-z, 0-9, _ and -"));
        }
        let schedule = named::parse(&self.cron)
            .map_err(|error| unusable(&name, &format!("cron {:?}: {error}", self.cron)))?;
        let zone = match self.timezone.as_deref() {
            None => Tz::UTC,
            Some(zone) => zone.parse().map_err(|_| {
                unusable(&name, &format!("{zone:?} is no time zone"))
                    .hint("say UTC or Europe/Paris")
            })?,
        };
        if self.percent.is_some() && self.what != WhatWord::Verify {
            return Err(unusable(&name, "percent is for what = \"verify\""));
        }
        let what = match (self.what, self.database) {
            (WhatWord::Backup, None) => What::Backup,
            (WhatWord::Backup, Some(database))
                if databases.is_none_or(|all| all.contains(&database)) =>
            {
                What::Dump(database)
            }
            (WhatWord::Backup, Some(database)) => {
                return Err(unusable(&name, &format!("there is no [[database]] {database:?}")));
            }
            (_, Some(_)) => return Err(unusable(&name, "a database is for what = \"backup\"")),
            (WhatWord::Verify, None) => match self.percent.unwrap_or(PERCENT_DEFAULT) {
                percent @ 1..=100 => What::Verify(percent),
                _ => return Err(unusable(&name, "percent is from 1 to 100")),
            },
            (WhatWord::Drill, None) => What::Drill,
            (WhatWord::Prune, None) => What::Prune,
        };
        let label = self.label.unwrap_or_default();
        if label.chars().count() > LABEL_CHARS_MAX {
            return Err(unusable(&name, "the label has more than 200 characters"));
        }
        let jitter = self.jitter.as_deref().map_or(Some(Duration::ZERO), duration);
        let jitter = jitter.filter(|jitter| *jitter <= JITTER_MAX).ok_or_else(|| {
            unusable(&name, "the jitter is no time up to 24h").hint("say 90s, 30m or 12h")
        })?;
        let (when, catch_up) = (Zoned { schedule, zone }, self.catch_up.unwrap_or(true));
        Ok(ScheduleConfig { name, when, what, label, jitter, catch_up })
    }
}

fn unusable(name: &str, what: &str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the [[schedule]] {name:?}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        schedule: Vec<ScheduleTable>,
    }

    fn parsed(text: &str) -> Result<Vec<ScheduleConfig>> {
        let file = toml::from_str::<File>(text).expect("a file");
        resolve(file.schedule, Some(&["ledger".to_owned()]))
    }

    #[test]
    fn a_table_needs_little_and_can_say_much() {
        let text = "[[schedule]]\nname = 'nightly'\ncron = '@daily'\n\
            [[schedule]]\nname = 'b'\ncron = '30 2 * * MON-FRI'\ntimezone = 'Europe/Paris'\n\
            database = 'ledger'\nlabel = 'x'\njitter = '10m'\ncatch_up = false\n\
            [[schedule]]\nname = 'c'\ncron = '0 4 * * *'\nwhat = 'verify'\npercent = 5";
        let found = parsed(text).expect("usable");
        assert_eq!((&found[0].what, found[0].when.zone), (&What::Backup, Tz::UTC));
        assert!(found[0].catch_up && found[0].jitter.is_zero() && found[0].label.is_empty());
        assert_eq!(found[1].what, What::Dump("ledger".to_owned()));
        assert_eq!(found[1].when.text(), "30 2 * * 1-5 Europe/Paris");
        assert_eq!((found[1].jitter.as_secs(), found[1].catch_up), (600, false));
        assert_eq!(found[2].what, What::Verify(5));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let one = "[[schedule]]\nname = 'a'\ncron = '0 3 * * *'\n";
        for (text, word) in [
            (format!("{one}{one}"), "twice"),
            (format!("{one}timezone = 'Mars'"), "Mars"),
            (format!("{one}percent = 5"), "verify"),
            (format!("{one}what = 'verify'\npercent = 0"), "1 to 100"),
            (format!("{one}database = 'none'"), "none"),
            (format!("{one}what = 'drill'\ndatabase = 'ledger'"), "backup"),
            (format!("{one}jitter = '2d'"), "jitter"),
            ("[[schedule]]\nname = 'A b'\ncron = '0 3 * * *'".to_owned(), "A b"),
            ("[[schedule]]\nname = 'a'\ncron = '0 3 * *'".to_owned(), "5 space"),
        ] {
            let error = parsed(&text).expect_err(&text);
            assert!(error.full().contains(word), "{text}: {}", error.full());
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_bad_one_is_told_once() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("pocketvault.toml");
        let one = "[[schedule]]\nname = 'a'\ncron = '0 3 * * *'\n";
        std::fs::write(&path, one).expect("written");
        let mut file = Schedules::resolve(Vec::new(), Some(&path), Vec::new()).expect("read").file;
        assert_eq!(file.changed().expect("nothing"), None);
        std::fs::write(&path, format!("{one}label = 'x'\n")).expect("written");
        let found = file.changed().expect("read").expect("changed");
        assert_eq!(found[0].label, "x");
        assert_eq!(file.changed().expect("nothing"), None);
        std::fs::write(&path, "[[schedule]]\nname = 'a'\n").expect("written");
        assert!(file.changed().is_err());
        assert_eq!(file.changed().expect("told before"), None);
        std::fs::remove_file(&path).expect("removed");
        assert!(file.changed().is_err(), "a named file that is gone is no empty one");
        std::fs::write(&path, "").expect("written");
        assert_eq!(file.changed().expect("read"), Some(Vec::new()));
    }
}
