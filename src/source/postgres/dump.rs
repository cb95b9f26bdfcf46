//! Dumping: `pg_dump` writes, we pass its bytes on, and a `pg_restore` reads the same bytes.

use std::ffi::OsString;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};

use crate::control::Control;
use crate::error::{Context, Kind, Result};
use crate::source::postgres::child::{Ended, Pipes, Running, guarded};
use crate::source::postgres::programs::Programs;
use crate::source::postgres::snapshot::Snapshot;
use crate::source::postgres::target::Target;
use crate::source::postgres::{Postgres, fault};

/// Bytes per block that is passed on.
const BLOCK_BYTES: usize = 1 << 20;
/// How long a table's lock is waited for: longer waits stall the application behind us.
const LOCK_WAIT: &str = "60s";

/// Where the bytes of a dump go.
#[async_trait]
pub trait Sink: Send {
    /// Takes the next block.
    ///
    /// # Errors
    /// Nobody wants any more; the dump fails with it.
    async fn take(&mut self, block: Bytes) -> Result<()>;
}

/// A dump that was made and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Postgres {
    /// Dumps the database into `sink`. All of it was read back when this returns `Ok`.
    ///
    /// # Errors
    /// [`Kind::Unavailable`], `NoSpace` or `Internal` as the program's end says, with its last
    /// words as the cause; [`Kind::Corrupt`] when the dump cannot be read back;
    /// [`Kind::Cancelled`]; what the sink says.
    pub async fn dump(
        &self,
        programs: &Programs,
        sink: &mut dyn Sink,
        control: &Control,
    ) -> Result<Dumped> {
        let passing = self.pass_on(programs, None, sink, control);
        guarded(control, self.options.timeout, passing).await
    }

    /// As [`Postgres::dump`], of the moment that a snapshot holds.
    ///
    /// # Errors
    /// As there.
    pub async fn dump_of(
        &self,
        snapshot: &Snapshot,
        programs: &Programs,
        sink: &mut dyn Sink,
        control: &Control,
    ) -> Result<Dumped> {
        let passing = self.pass_on(programs, Some(snapshot.id()), sink, control);
        guarded(control, self.options.timeout, passing).await
    }

    async fn pass_on(
        &self,
        programs: &Programs,
        snapshot: Option<&str>,
        sink: &mut dyn Sink,
        control: &Control,
    ) -> Result<Dumped> {
        let program = programs.folder.join("pg_dump");
        let arguments = self.arguments(snapshot);
        let mut dump = Running::start(&program, &arguments, &self.target, Pipes::Out)?;
        let reader = programs.folder.join("pg_restore");
        let nowhere = ["--file=/dev/null".into()];
        let mut proof = Running::start(&reader, &nowhere, &self.target, Pipes::In)?;
        let mut output = dump.stdout()?;
        let mut into = Some(proof.stdin()?);
        let mut sum = Sum::default();
        loop {
            let block = next_block(&mut output).await?;
            if block.is_empty() {
                break;
            }
            sum.add(&block);
            control.add_bytes(block.len() as u64);
            feed(&mut into, &block).await?;
            sink.take(block).await?;
        }
        drop(into);
        let ended = dump.wait().await?;
        if !ended.is_well() {
            return Err(failed(&ended, Kind::Internal));
        }
        let ended = proof.wait().await?;
        if !ended.is_well() {
            return Err(failed(&ended, Kind::Corrupt));
        }
        Ok(sum.finish())
    }

    fn arguments(&self, snapshot: Option<&str>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = [
            "--format=custom",
            "--compress=1",
            "--no-password",
            &format!("--lock-wait-timeout={LOCK_WAIT}"),
        ]
        .map(OsString::from)
        .to_vec();
        let excluded = self.options.exclude_table_data.iter();
        arguments.extend(excluded.map(|table| format!("--exclude-table-data={table}").into()));
        arguments.extend(snapshot.map(|id| format!("--snapshot={id}").into()));
        arguments.push(Target::argument(self.target.database()).into());
        arguments
    }
}

/// A sum and a size that grow.
#[derive(Default)]
pub(super) struct Sum {
    hash: Sha256,
    bytes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, block: &[u8]) {
        self.hash.update(block);
        self.bytes += block.len() as u64;
    }

    pub(super) fn finish(self) -> Dumped {
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Dumped { sha256, bytes: self.bytes }
    }
}

/// The error of a program that ended with a failure.
pub(super) fn failed(ended: &Ended, otherwise: Kind) -> crate::error::Error {
    let said = format!("{}: {}", ended.how(), ended.said);
    fault::of_program(&said, otherwise, format!("{}.", ended.how()))
}

/// Writes a block to a program that reads; one that reads no more has ended, and says why.
pub(super) async fn feed(into: &mut Option<ChildStdin>, block: &[u8]) -> Result<()> {
    let Some(stdin) = into else { return Ok(()) };
    match stdin.write_all(block).await {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            *into = None;
            Ok(())
        }
        written => written.context("cannot write to pg_restore"),
    }
}

async fn next_block(output: &mut ChildStdout) -> Result<Bytes> {
    let mut block = BytesMut::with_capacity(BLOCK_BYTES);
    while block.len() < BLOCK_BYTES {
        let read = output.read_buf(&mut block).await.context("cannot read from pg_dump")?;
        if read == 0 {
            break;
        }
    }
    Ok(block.freeze())
}
