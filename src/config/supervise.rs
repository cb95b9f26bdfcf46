//! The program that we run behind us: its command line as the user typed it, and what of it
//! has to agree with ours.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// How long the program may take from its start to its first answer, in seconds.
const START_TIMEOUT_S_DEFAULT: u64 = 60;
/// How long it may take to end when told to, in seconds; after that it is killed.
const STOP_TIMEOUT_S_DEFAULT: u64 = 10;
/// How long a request waits for a program that is down, in seconds.
const REQUEST_WAIT_S_DEFAULT: u64 = 30;

/// Options about the program behind us.
#[derive(Debug, Clone, Default, Args)]
pub struct SuperviseOptions {
    /// Run PROGRAM behind us, for example `-- pocketbase serve`, and pass on to it everything
    /// that is not ours
    #[arg(last = true, value_name = "PROGRAM")]
    pub command: Vec<OsString>,
    /// Longest time from the program's start to its first answer, in seconds [default: 60]
    #[arg(long, value_name = "SECONDS", env = "POCKETVAULT_START_TIMEOUT")]
    pub start_timeout: Option<u64>,
    /// How long the program may take to end before it is killed, in seconds [default: 10]
    #[arg(long, value_name = "SECONDS", env = "POCKETVAULT_STOP_TIMEOUT")]
    pub stop_timeout: Option<u64>,
    /// How long a request waits during a restart before it is answered with 503, in seconds
    /// [default: 30]
    #[arg(long, value_name = "SECONDS", env = "POCKETVAULT_REQUEST_WAIT")]
    pub request_wait: Option<u64>,
}

/// The file's form of the same, the table `[supervise]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SuperviseFile {
    #[serde(default)]
    command: Vec<String>,
    start_timeout: Option<u64>,
    stop_timeout: Option<u64>,
    request_wait: Option<u64>,
}

/// The program behind us, and how patient we are with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervise {
    /// Its path or name.
    pub program: OsString,
    /// Its arguments without the address and the folder.
    pub arguments: Vec<OsString>,
    /// Where it must listen, on the loopback; `None` takes a free port at each start.
    pub http: Option<SocketAddr>,
    /// Its `--dir`, if it was given one.
    pub dir: Option<PathBuf>,
    /// Its `--encryptionEnv`, if it was given one.
    pub encryption_env: Option<String>,
    /// Longest time from its start to its first answer.
    pub start_timeout: Duration,
    /// How long it may take to end.
    pub stop_timeout: Duration,
}

/// How long a request may wait while nobody can answer it.
pub(super) fn request_wait(options: &SuperviseOptions, file: &SuperviseFile) -> Duration {
    let wait_s = options.request_wait.or(file.request_wait).unwrap_or(REQUEST_WAIT_S_DEFAULT);
    Duration::from_secs(wait_s)
}

impl Supervise {
    /// Takes the program's command line apart; `None` when there is no program.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for arguments that cannot work behind us, with what to do instead.
    pub(super) fn resolve(
        options: &SuperviseOptions,
        file: &SuperviseFile,
    ) -> Result<Option<Self>> {
        let command: Vec<OsString> = match options.command.is_empty() {
            false => options.command.clone(),
            true => file.command.iter().map(OsString::from).collect(),
        };
        let mut words = command.into_iter();
        let Some(program) = words.next() else { return Ok(None) };
        let mut arguments: Vec<OsString> = words.collect();
        if take(&mut arguments, "https")?.is_some() {
            return Err(refused("the program's --https cannot be used").hint(
                "pocketvault takes the requests in front of it; leave TLS to a proxy in front \
                 of pocketvault",
            ));
        }
        let http = take(&mut arguments, "http")?.map(|text| private(&text)).transpose()?;
        let dir = take(&mut arguments, "dir")?.map(PathBuf::from);
        let encryption_env =
            find(&arguments, "encryptionEnv")?.map(|name| name.to_string_lossy().into_owned());
        let seconds = |option: Option<u64>, file: Option<u64>, default| {
            Duration::from_secs(option.or(file).unwrap_or(default))
        };
        Ok(Some(Self {
            program,
            arguments,
            http,
            dir,
            encryption_env,
            start_timeout: seconds(
                options.start_timeout,
                file.start_timeout,
                START_TIMEOUT_S_DEFAULT,
            ),
            stop_timeout: seconds(options.stop_timeout, file.stop_timeout, STOP_TIMEOUT_S_DEFAULT),
        }))
    }

    /// Finds out whether there is a file that can be run, before anything depends on it.
    ///
    /// # Errors
    /// [`Kind::Unavailable`] when there is none.
    pub fn require_program(&self) -> Result<()> {
        let runs = |path: &Path| {
            path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
        };
        let named = Path::new(&self.program);
        let found = match named.components().count() {
            1 => std::env::var_os("PATH").is_some_and(|path| {
                std::env::split_paths(&path).any(|folder| runs(&folder.join(named)))
            }),
            _ => runs(named),
        };
        if found {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, format!("cannot run {}", named.display()))
            .hint("is it there, and may it be executed?"))
    }

    /// Gives the program a flag that it was not given by the user.
    pub(super) fn give(&mut self, name: &str, value: &str) {
        if matches!(find(&self.arguments, name), Ok(None)) {
            self.arguments.push(format!("--{name}={value}").into());
        }
    }
}

/// The program's address: nobody but us may reach it.
fn private(text: &OsStr) -> Result<SocketAddr> {
    let text = text.to_string_lossy();
    let hint = "leave its --http out: pocketvault gives it a private port; the address that \
                clients use is pocketvault's own --http, before the --";
    let address: SocketAddr = text.replace("localhost:", "127.0.0.1:").parse().map_err(|_| {
        refused(format!("the program's --http {text:?} is not an address of this machine"))
            .hint(hint)
    })?;
    let loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    if !loopback || address.port() == 0 {
        let message = format!(
            "the program's --http {text:?} must be a loopback address with a port: whoever \
             reached it directly would be cut off by restores and seen past"
        );
        return Err(refused(message).hint(hint));
    }
    Ok(address)
}

/// The flag that ours and the program's command line must agree on.
pub(super) fn agree<T: PartialEq + std::fmt::Debug>(
    name: &str,
    ours: Option<T>,
    theirs: Option<T>,
) -> Result<Option<T>> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(refused(format!(
            "--{name} is {ours:?} for pocketvault, and {theirs:?} for the program"
        ))
        .hint("they work on the same folder with the same key: give the flag once")),
        (ours, theirs) => Ok(ours.or(theirs)),
    }
}

/// The value of `--name VALUE` or `--name=VALUE`; the last one counts.
fn find(arguments: &[OsString], name: &str) -> Result<Option<OsString>> {
    take(&mut arguments.to_vec(), name)
}

/// As [`find`], and takes it out.
fn take(arguments: &mut Vec<OsString>, name: &str) -> Result<Option<OsString>> {
    let flag = format!("--{name}");
    let with_value = format!("--{name}=");
    let mut found = None;
    let mut kept = Vec::with_capacity(arguments.len());
    let mut words = std::mem::take(arguments).into_iter();
    while let Some(word) = words.next() {
        if word == *flag.as_str() {
            let value = words.next();
            let missing = || refused(format!("the program's {flag} has no value"));
            found = Some(value.ok_or_else(missing)?);
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(&*with_value)) {
            found = Some(value.into());
        } else {
            kept.push(word);
        }
    }
    *arguments = kept;
    Ok(found)
}

fn refused(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Invalid(Vec::new()), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(words: &[&str]) -> Result<Option<Supervise>> {
        let command = words.iter().map(OsString::from).collect();
        let options = SuperviseOptions { command, ..SuperviseOptions::default() };
        Supervise::resolve(&options, &SuperviseFile::default())
    }

    #[test]
    fn address_and_folder_are_taken_out_of_the_program_s_arguments() {
        let found = resolve(&[
            "pb",
            "--dir=/d",
            "serve",
            "--http",
            "localhost:9000",
            "--dev",
            "--encryptionEnv",
            "K",
        ]);
        let found = found.expect("usable").expect("a program");
        assert_eq!(found.program, "pb");
        assert_eq!(found.arguments, ["serve", "--dev", "--encryptionEnv", "K"]);
        assert_eq!(found.http, Some("127.0.0.1:9000".parse().expect("an address")));
        assert_eq!(found.dir, Some("/d".into()));
        assert_eq!(found.encryption_env.as_deref(), Some("K"));
        assert_eq!(resolve(&[]).expect("usable"), None);
    }

    #[test]
    fn the_file_names_the_program_when_the_command_line_does_not() {
        let file: SuperviseFile =
            toml::from_str("command = ['pb', 'serve']\nstart_timeout = 5").expect("a table");
        let found = Supervise::resolve(&SuperviseOptions::default(), &file);
        let found = found.expect("usable").expect("a program");
        assert_eq!((found.program, found.arguments), ("pb".into(), vec!["serve".into()]));
        assert_eq!(found.start_timeout, Duration::from_secs(5));
        assert_eq!(found.stop_timeout, Duration::from_secs(10));
    }

    #[test]
    fn what_contradicts_us_is_refused_with_words() {
        for words in [
            &["pb", "serve", "--http", "0.0.0.0:8090"][..],
            &["pb", "serve", "--http=127.0.0.1:0"],
            &["pb", "serve", "--http=example.com"],
            &["pb", "serve", "--https=127.0.0.1:443"],
            &["pb", "serve", "--dir"],
        ] {
            let error = resolve(words).expect_err("refused");
            assert!(error.message().contains("the program's --"), "{}", error.full());
        }
        assert!(agree("dir", Some(1), Some(2)).is_err());
        assert_eq!(agree("dir", Some(1), Some(1)).expect("agreed"), Some(1));
        assert_eq!(agree("dir", None, Some(2)).expect("agreed"), Some(2));
    }

    #[test]
    fn a_program_that_is_not_there_is_noticed() {
        for (program, there) in [
            ("sh", true),
            ("/bin/sh", true),
            ("no-such-program", false),
            ("./sh", false),
            ("/", false),
        ] {
            let found = resolve(&[program]).expect("usable").expect("a program");
            assert_eq!(found.require_program().is_ok(), there, "{program}");
        }
    }

    #[test]
    fn a_flag_is_given_only_when_it_is_missing() {
        let mut found = resolve(&["pb", "--origins=a"]).expect("usable").expect("a program");
        found.give("origins", "b");
        found.give("other", "c");
        assert_eq!(found.arguments, ["--origins=a", "--other=c"]);
    }
}
