//! How archives are written: the flags of `serve` and the table `[archive]` of the file.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// The least polite priority there is.
const NICE_MAX: u8 = 19;

/// The flags.
#[derive(Debug, Clone, Default, Args)]
pub struct ArchiveOptions {
    /// Compress everything anew, also what the backup before holds already
    #[arg(long, env = "POCKETVAULT_NO_REUSE", value_parser = FalseyValueParser::new())]
    pub no_reuse: bool,
    /// Threads that compress [default: one per core, at most 12]
    #[arg(long, value_name = "N", env = "POCKETVAULT_THREADS")]
    pub threads: Option<NonZeroUsize>,
    /// Deflate level, 1 (fastest) to 9 (smallest) [default: 2]
    #[arg(long, value_name = "1-9", env = "POCKETVAULT_LEVEL")]
    pub level: Option<u8>,
    /// Lower the CPU priority of backups by so much, 0 to 19 [default: 0]
    #[arg(long, value_name = "0-19", env = "POCKETVAULT_NICE")]
    pub nice: Option<u8>,
    /// I/O priority of backups, where the kernel's scheduler knows any [default: normal]
    #[arg(long, value_name = "CLASS", env = "POCKETVAULT_IONICE")]
    pub ionice: Option<IoClass>,
    /// Read at most so many megabytes (10^6 bytes) per second for a backup
    #[arg(long, value_name = "MB", env = "POCKETVAULT_RATE_LIMIT")]
    pub rate_limit_mb_s: Option<NonZeroU32>,
}

/// The table of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveTable {
    reuse: Option<bool>,
    threads: Option<NonZeroUsize>,
    level: Option<u8>,
    nice: Option<u8>,
    ionice: Option<IoClass>,
    rate_limit_mb_s: Option<NonZeroU32>,
}

/// How urgent reading is to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoClass {
    /// As everything else.
    #[default]
    Normal,
    /// After everything else of the same kind.
    Low,
    /// Only when nobody else wants the disk.
    Idle,
}

/// How archives are written, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// Whether compressed data is taken over from the backup before.
    pub reuse: bool,
    /// Threads that compress; `None` is one per core.
    pub threads: Option<NonZeroUsize>,
    /// Deflate level, 1 to 9; `None` is the default.
    pub level: Option<u32>,
    /// By how much the CPU priority is lowered, 0 to 19.
    pub nice: u8,
    /// The I/O priority.
    pub io: IoClass,
    /// Most bytes read per second, in megabytes (10^6 bytes).
    pub rate_limit_mb_s: Option<NonZeroU32>,
}

impl Archive {
    /// Flags win over the file.
    ///
    /// # Errors
    /// A number that is out of its range.
    pub(super) fn resolve(options: &ArchiveOptions, file: &ArchiveTable) -> Result<Self> {
        let level = options.level.or(file.level);
        if level.is_some_and(|level| !(1..=9).contains(&level)) {
            return Err(unusable("level", "a number from 1 to 9"));
        }
        let nice = options.nice.or(file.nice).unwrap_or(0);
        if nice > NICE_MAX {
            return Err(unusable("nice", "a number from 0 to 19"));
        }
        Ok(Self {
            reuse: !options.no_reuse && file.reuse.unwrap_or(true),
            threads: options.threads.or(file.threads),
            level: level.map(u32::from),
            nice,
            io: options.ionice.or(file.ionice).unwrap_or_default(),
            rate_limit_mb_s: options.rate_limit_mb_s.or(file.rate_limit_mb_s),
        })
    }
}

fn unusable(what: &str, wanted: &str) -> Error {
    Error::new(Kind::Invalid(Vec::new()), format!("the archive's {what} is out of range"))
        .hint(format!("give {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(options: &ArchiveOptions, file: &str) -> Result<Archive> {
        Archive::resolve(options, &toml::from_str(file).expect("a table"))
    }

    #[test]
    fn flags_win_over_the_table_and_the_table_over_defaults() {
        let none = ArchiveOptions::default();
        let plain = resolve(&none, "").expect("defaults");
        assert!(plain.reuse && plain.nice == 0 && plain.io == IoClass::Normal);
        assert_eq!((plain.level, plain.threads, plain.rate_limit_mb_s), (None, None, None));
        let file = "reuse = false\nthreads = 3\nlevel = 6\nnice = 10\nionice = 'idle'\n\
            rate_limit_mb_s = 50";
        let filed = resolve(&none, file).expect("a table");
        assert!(!filed.reuse && filed.nice == 10 && filed.io == IoClass::Idle);
        assert_eq!((filed.level, filed.threads), (Some(6), NonZeroUsize::new(3)));
        let flags = ArchiveOptions {
            no_reuse: true,
            level: Some(1),
            nice: Some(0),
            ionice: Some(IoClass::Low),
            rate_limit_mb_s: NonZeroU32::new(7),
            ..none
        };
        let flagged = resolve(&flags, "reuse = true\nlevel = 6\nnice = 3\nionice = 'idle'");
        let flagged = flagged.expect("flags");
        assert!(!flagged.reuse && flagged.nice == 0 && flagged.io == IoClass::Low);
        assert_eq!((flagged.level, flagged.rate_limit_mb_s), (Some(1), NonZeroU32::new(7)));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let none = ArchiveOptions::default();
        for file in ["level = 0", "level = 10", "nice = 20"] {
            assert!(resolve(&none, file).is_err(), "{file}");
        }
        for file in ["threads = 0", "ionice = 'best'", "rate_limit_mb_s = 0", "speed = 1"] {
            assert!(toml::from_str::<ArchiveTable>(file).is_err(), "{file}");
        }
    }
}
