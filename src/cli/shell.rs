//! `pocketvault completions` and `pocketvault man`: what a package installs besides the program.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::{Context, Result};

/// For which shell.
#[derive(Debug, Args)]
pub(super) struct CompletionOptions {
    /// The shell
    shell: Shell,
}

/// Where the pages go.
#[derive(Debug, Args)]
pub(super) struct ManOptions {
    /// Write a page for each command into this folder [default: the first page, to be read]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs `completions`.
pub(super) fn completions(options: &CompletionOptions, mut program: Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut program, "pocketvault", &mut text);
    std::io::stdout().write_all(&text).context("cannot print")
}

/// Runs `man`.
pub(super) fn man(options: &ManOptions, program: Command) -> Result<()> {
    let mut text = Vec::new();
    let Some(folder) = &options.folder else {
        Man::new(program).render(&mut text).context("cannot word the page")?;
        return std::io::stdout().write_all(&text).context("cannot print");
    };
    let failed = || format!("cannot write into {}", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(program.disable_help_subcommand(true), folder).with_context(failed)
}
