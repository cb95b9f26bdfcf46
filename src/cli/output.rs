//! How a command answers: words or JSON on standard output, progress on a terminal, errors on
//! standard error, and the exit status.

use std::fmt::{Display, Write as _};
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::control::{Control, Progress};
use crate::error::{Context, Error, Kind, Result};

/// How often a bar looks at a running job.
const TICK: Duration = Duration::from_millis(100);

/// In which form a command answers.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Output {
    /// Answer in JSON, errors too
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Output {
    /// Answers with one value in either form.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) fn tell(self, value: &Value, words: impl Display) -> Result<()> {
        match self.json {
            true => print(value),
            false => print(words),
        }
    }

    /// A bar on a terminal; nothing elsewhere.
    pub(super) fn bar(self, what: &str) -> Bar {
        if self.json || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message(what.to_owned());
        bar.set_style(spinner());
        bar.enable_steady_tick(TICK);
        Bar(Some(bar))
    }

    /// Says on standard error what went wrong: the exit status.
    #[expect(clippy::print_stderr, reason = "the command's own answer to its caller")]
    pub(super) fn failed(self, error: &Error) -> ExitCode {
        let code = code(error.kind());
        if self.json {
            let (message, hint) = (worded(error), error.operator_hint());
            let kind = name(error.kind());
            let error = json!({"kind": kind, "code": code, "message": message, "hint": hint});
            eprintln!("{}", json!({ "error": error }));
        } else {
            eprintln!("Error: {}", worded(error));
            if let Some(hint) = error.operator_hint() {
                eprintln!("Hint: {hint}");
            }
        }
        ExitCode::from(code)
    }
}

/// A progress bar, if somebody sits there; gone when it is dropped.
#[derive(Debug)]
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// Shows how far it is; without a total only that it goes on.
    pub(super) fn at(&self, step: &str, bytes: u64, total: u64) {
        let Some(bar) = &self.0 else { return };
        bar.set_prefix(step.to_owned());
        if total > 0 && bar.length() != Some(total) {
            bar.set_style(with_total());
            bar.set_length(total);
        }
        bar.set_position(bytes);
    }

    /// Shows a job of this process until `work` is over.
    pub(super) async fn follow<T>(&self, control: &Control, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                () = tokio::time::sleep(TICK) => {
                    let Progress { step, bytes, bytes_estimate, .. } = control.progress();
                    self.at(step.as_str(), bytes, bytes_estimate);
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressStyle {
    let text = "{spinner} {msg} {prefix} {bytes} {bytes_per_sec} {elapsed}";
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn with_total() -> ProgressStyle {
    let text = "{msg} {prefix} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(text);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Prints a line for the caller, whose end of a pipe may be closed.
///
/// # Errors
/// It is closed.
pub(super) fn print(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot print")
}

/// Asks whoever sits there; whoever does not must have said `--yes`.
///
/// # Errors
/// [`Kind::Denied`] when nobody is there, or says no.
pub(super) fn confirm(yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refused = |message: String| Err(Error::new(Kind::Denied, message));
    if !std::io::stdin().is_terminal() {
        let asked = question.trim_end_matches('?');
        return Err(Error::new(Kind::Denied, format!("nobody is there to confirm: {asked}"))
            .hint("say --yes"));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => refused("nothing was changed".to_owned()),
    }
}

/// Bytes as people read them, by powers of 1,000 as disks are sold.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut divisor = 1_000_u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1_000 {
        divisor *= 1_000;
        unit += 1;
    }
    let tenths = bytes / (divisor / 10);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// What went wrong and why, with every rule that an input breaks.
fn worded(error: &Error) -> String {
    let mut text = crate::error::chain(error);
    if let Kind::Invalid(violations) = error.kind() {
        for violation in violations {
            let _ = write!(text, "\n  {}: {}", violation.field, violation.message);
        }
    }
    text
}

/// The exit status of each kind of failure: `docs/commands.md` promises them.
fn code(kind: &Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::Invalid(_) => 2,
        Kind::NotFound => 3,
        Kind::Exists => 4,
        Kind::Denied | Kind::Unauthenticated => 5,
        Kind::Busy | Kind::InUse | Kind::Throttled => 6,
        Kind::Corrupt => 7,
        Kind::NoSpace => 8,
        Kind::Unavailable => 9,
        Kind::Cancelled => 10,
    }
}

/// The word for it in JSON.
fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Busy => "busy",
        Kind::Cancelled => "cancelled",
        Kind::Corrupt => "corrupt",
        Kind::Denied => "denied",
        Kind::Exists => "exists",
        Kind::Internal => "internal",
        Kind::InUse => "inUse",
        Kind::Invalid(_) => "invalid",
        Kind::NotFound => "notFound",
        Kind::NoSpace => "noSpace",
        Kind::Throttled => "throttled",
        Kind::Unauthenticated => "unauthenticated",
        Kind::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Violation;

    #[test]
    fn every_broken_rule_is_told() {
        let error = Error::invalid(Violation::new("password", "validation_x", "Too short."));
        assert!(worded(&error).ends_with("data.\n  password: Too short."), "{}", worded(&error));
        assert_eq!(worded(&Error::internal("broken")), "broken");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_999_999, "1.9 MB"),
            (12_345_678_901, "12.3 GB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
