//! The program. The only place from which the process ends or is replaced.

use std::process::ExitCode;

fn main() -> ExitCode {
    pocketvault::cli::run()
}
