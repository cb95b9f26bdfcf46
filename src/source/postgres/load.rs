//! Loading a dump into a database by `pg_restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use futures_util::StreamExt;

use crate::control::Control;
use crate::error::{Kind, Result};
use crate::source::postgres::Postgres;
use crate::source::postgres::archive::Reader;
use crate::source::postgres::child::{Pipes, Running, guarded};
use crate::source::postgres::dump::{Dumped, Sum, failed};
use crate::source::postgres::programs::Programs;
use crate::source::postgres::target::Target;

/// How a dump is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Into an empty database; the first fault ends it and leaves what there is.
    Fresh,
    /// Over the objects of a database, in one transaction: all or nothing.
    InPlace,
}

/// Loads dumps into one database.
#[derive(Debug, Clone)]
pub struct Loader {
    /// The database that is loaded into.
    pub database: String,
    /// How.
    pub how: Load,
    /// Whether owners and privileges are those of the dump; otherwise all is the role's own.
    pub owners: bool,
    /// The programs.
    pub programs: Programs,
}

impl Loader {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--no-password".into()];
        match self.how {
            Load::Fresh => arguments.push("--exit-on-error".into()),
            Load::InPlace => {
                let more = ["--single-transaction", "--clean", "--if-exists"];
                arguments.extend(more.map(OsString::from));
            }
        }
        if !self.owners {
            arguments.extend(["--no-owner", "--no-privileges"].map(OsString::from));
        }
        arguments.push(Target::argument(&self.database).into());
        arguments
    }
}

impl Postgres {
    /// Loads a dump from a stream; the sum of what was read.
    ///
    /// # Errors
    /// As the program's end says, with its last words as the cause; [`Kind::Cancelled`]; what
    /// the stream says.
    pub async fn load(&self, loader: &Loader, reader: Reader, control: &Control) -> Result<Dumped> {
        let arguments = loader.arguments();
        let loading = self.pour(&loader.programs, &arguments, reader, Kind::Internal, control);
        guarded(control, self.timeout(), loading).await
    }

    /// Loads a dump that lies on the local disk with several connections. `reader` reads the
    /// same bytes, for the sum.
    ///
    /// # Errors
    /// As [`Postgres::load`].
    pub async fn load_file(
        &self,
        loader: &Loader,
        file: PathBuf,
        mut reader: Reader,
        control: &Control,
    ) -> Result<Dumped> {
        let mut arguments = loader.arguments();
        arguments.push(format!("--jobs={}", self.jobs()).into());
        arguments.push(file.into());
        let program = loader.programs.folder.join("pg_restore");
        let loading = async {
            let running = Running::start(&program, &arguments, self.target(), Pipes::None)?;
            let ended = running.wait().await?;
            if ended.is_well() { Ok(()) } else { Err(failed(&ended, Kind::Internal)) }
        };
        let summing = async {
            let mut sum = Sum::default();
            while let Some(block) = reader.next().await {
                let block = block?;
                sum.add(&block);
                control.add_bytes(block.len() as u64);
            }
            Ok(sum.finish())
        };
        let both = async { tokio::try_join!(loading, summing).map(|((), sum)| sum) };
        guarded(control, self.timeout(), both).await
    }
}
