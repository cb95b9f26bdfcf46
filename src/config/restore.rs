//! The options of restores: `[restore]` in the configuration file.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// How long the data from before a restore is kept unless told otherwise: 30 days.
const KEEP_OLD_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long the application may take to become healthy unless told otherwise.
const HEALTH_WAIT_DEFAULT: Duration = Duration::from_secs(60);

/// The file's form.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreOptions {
    keep_old: Option<String>,
    safety_backup: Option<bool>,
    stop_command: Option<Vec<String>>,
    start_command: Option<Vec<String>>,
    health_url: Option<String>,
    health_wait: Option<String>,
}

/// What a restore does besides restoring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreConfig {
    /// How long the data from before a restore is kept for an undo.
    pub keep_old: Duration,
    /// Whether a backup is made before each restore.
    pub safety_backup: bool,
    /// How to stop and start the application that owns the folder; `None` when that is not ours.
    pub commands: Option<Commands>,
}

/// How to handle an application that we did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// Program and arguments that stop it; back when it has stopped.
    pub stop: Vec<String>,
    /// Program and arguments that start it; back when it was started.
    pub start: Vec<String>,
    /// An address that answers with a status of 200 to 299 when the application is well.
    pub health_url: Option<String>,
    /// How long that may take.
    pub health_wait: Duration,
}

impl Default for RestoreConfig {
    fn default() -> Self {
        Self { keep_old: KEEP_OLD_DEFAULT, safety_backup: false, commands: None }
    }
}

impl RestoreOptions {
    pub(super) fn resolve(self) -> Result<RestoreConfig> {
        let refused = |what: &str| {
            Error::new(Kind::Invalid(Vec::new()), format!("the configuration's [restore]: {what}"))
        };
        let time = |text: Option<String>, default: Duration| match text {
            None => Ok(default),
            Some(text) => duration(&text).ok_or_else(|| {
                refused(&format!("{text:?} is no time")).hint("say 90s, 30m, 12h or 7d")
            }),
        };
        let health_wait = time(self.health_wait, HEALTH_WAIT_DEFAULT)?;
        let commands = match (self.stop_command, self.start_command) {
            (None, None) if self.health_url.is_none() => None,
            (Some(stop), Some(start)) if !stop.is_empty() && !start.is_empty() => {
                Some(Commands { stop, start, health_url: self.health_url, health_wait })
            }
            _ => {
                return Err(refused("stop_command and start_command belong together")
                    .hint("give both as lists, for example [\"systemctl\", \"stop\", \"pb\"]"));
            }
        };
        Ok(RestoreConfig {
            keep_old: time(self.keep_old, KEEP_OLD_DEFAULT)?,
            safety_backup: self.safety_backup.unwrap_or(false),
            commands,
        })
    }
}

/// A whole number and its unit: `90s`, `30m`, `12h`, `7d`.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    // A hundred years and more would leave the calendar.
    let total = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (total < 100 * 365 * 24 * 3600).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str) -> Result<RestoreConfig> {
        toml::from_str::<RestoreOptions>(file).expect("a table").resolve()
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "-1d", "1w", "7 d", "99999999999999d", "é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn the_table_is_read() {
        assert_eq!(resolve("").expect("defaults"), RestoreConfig::default());
        let file = "keep_old = '7d'\nsafety_backup = true\nstop_command = ['stop']\n\
            start_command = ['start', 'it']\nhealth_url = 'http://x/'";
        let config = resolve(file).expect("read");
        assert_eq!(config.keep_old, Duration::from_secs(7 * 24 * 3600));
        let commands = config.commands.expect("commands");
        assert_eq!(commands.start, ["start", "it"]);
        assert_eq!(commands.health_wait, HEALTH_WAIT_DEFAULT);
        for bad in [
            "keep_old = '7'",
            "stop_command = ['x']",
            "health_url = 'x'",
            "stop_command = []\nstart_command = ['x']",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
    }
}
