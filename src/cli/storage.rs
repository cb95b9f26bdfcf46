//! `pocketvault storage …`

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::backup::Key;
use crate::cli::on_runtime;
use crate::cli::output::{Output, print};
use crate::clock::Clock;
use crate::config::storage::StorageOptions;
use crate::config::{self, FolderOptions, FolderStorage};
use crate::database::{Access, Database};
use crate::error::{Error, Kind, Result};
use crate::http::services::bucket_of;
use crate::settings::store::Store;
use crate::settings::{Encryption, Settings};
use crate::storage::{
    self, Finding, LocalStorage, PutMode, S3Options, S3Storage, Storage, Verdict,
};

/// What the test of a local folder writes.
const TEXT: &[u8] = b"pocketvault tests this folder";

/// What to do with the storage.
#[derive(Debug, Subcommand)]
pub(super) enum StorageCommand {
    /// Try everything that backups need, and say what cannot be done
    Test(Where),
}

/// Which storage.
#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Runs the command. It fails when something is missing that backups need.
pub(super) fn run(command: StorageCommand, output: Output) -> Result<()> {
    let StorageCommand::Test(place) = command;
    on_runtime(test(&place, output))
}

async fn test(place: &Where, output: Output) -> Result<()> {
    let found = config::folder_storage(&place.folder, &place.storage)?;
    let (head, findings) = match bucket(&found).await? {
        Some(options) => (about(&options)?, probe(&options, output).await?),
        None => {
            let head = format!("Folder {}", found.data.backups().display());
            (head, test_folder(&found).await?)
        }
    };
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
    if output.json {
        let findings: Vec<Value> = findings.iter().map(shown).collect();
        print(json!({"place": head, "ok": failed == 0, "findings": findings}))?;
    } else {
        print(head)?;
        findings.iter().try_for_each(|finding| print(line(finding)))?;
    }
    match failed {
        0 if output.json => Ok(()),
        0 => print("Backups can be kept there."),
        failed => Err(Error::new(Kind::Unavailable, format!("{failed} of the tests failed"))),
    }
}

fn shown(finding: &Finding) -> Value {
    let verdict = match finding.verdict {
        Verdict::Good => "ok",
        Verdict::Missing => "lacks",
        Verdict::Failed => "failed",
    };
    json!({"step": finding.step, "verdict": verdict, "said": finding.said})
}

/// Everything is tried, which takes a while.
async fn probe(options: &S3Options, output: Output) -> Result<Vec<Finding>> {
    let _bar = output.bar("storage test");
    storage::probe(options).await
}

/// The bucket that the server would use; `None` for the local folder.
pub(super) async fn bucket(found: &FolderStorage) -> Result<Option<S3Options>> {
    if !found.data.data_db().exists() {
        return Ok(bucket_of(&Settings::default(), &found.storage));
    }
    let database = Database::open(found.data.root(), Access::ReadOnly)?;
    let (variable, key) = found.encryption.clone();
    let encryption = Encryption::new(variable, key.expose().to_owned());
    let store = Store::new(database.clone(), encryption, Clock::system());
    let settings = store.current().await;
    database.close().await;
    Ok(bucket_of(settings?.as_ref(), &found.storage))
}

/// What the bucket is, in words.
fn about(options: &S3Options) -> Result<String> {
    let storage = S3Storage::new(options)?;
    let profile = storage.profile();
    let mut text = format!(
        "Bucket {} at {} as {:?}, backups of up to {} GiB",
        options.bucket,
        if options.endpoint.is_empty() { "AWS" } else { &options.endpoint },
        profile.provider,
        storage.largest_bytes() >> 30,
    );
    if !profile.note.is_empty() {
        text.push('\n');
        text.push_str(profile.note);
    }
    Ok(text)
}

/// The folder needs less of a test: a file system does what it does.
async fn test_folder(found: &FolderStorage) -> Result<Vec<Finding>> {
    let folder = found.data.backups();
    let storage = LocalStorage::new(folder);
    let key = Key::existing(&format!("pocketvault_test_{:08x}.zip", rand::random::<u32>()))?;
    let body = || stream::iter([Ok(Bytes::from_static(TEXT))]).boxed();
    let finding = |step, result: Result<()>| match result {
        Ok(()) => Finding { step, verdict: Verdict::Good, said: String::new() },
        Err(error) => Finding { step, verdict: Verdict::Failed, said: error.full() },
    };
    let written = storage.put(&key, body(), PutMode::Create).await.map(drop);
    if written.is_err() {
        return Ok(vec![finding("write", written)]);
    }
    let again = match storage.put(&key, body(), PutMode::Create).await {
        Err(error) if error.kind() == &Kind::Exists => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::internal("a name that is taken was taken again")),
    };
    let range = match storage.get(&key, Some(3..7)).await {
        Ok(blocks) => match blocks.try_collect::<Vec<Bytes>>().await {
            Ok(blocks) if blocks.concat() == TEXT[3..7] => Ok(()),
            Ok(_) => Err(Error::internal("something else comes back")),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let deleted = storage.delete(&key).await;
    Ok(vec![
        finding("write", written),
        finding("conditional writes", again),
        finding("ranges", range),
        finding("delete", deleted),
    ])
}

fn line(finding: &Finding) -> String {
    let verdict = match finding.verdict {
        Verdict::Good => "ok    ",
        Verdict::Missing => "lacks ",
        Verdict::Failed => "FAILED",
    };
    let colon = if finding.said.is_empty() { "" } else { ": " };
    format!("{verdict}  {}{colon}{}", finding.step, finding.said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_it_went_and_why() {
        let finding = |verdict, said: &str| Finding { step: "list", verdict, said: said.into() };
        assert_eq!(line(&finding(Verdict::Good, "")), "ok      list");
        assert_eq!(line(&finding(Verdict::Missing, "no")), "lacks   list: no");
        assert_eq!(line(&finding(Verdict::Failed, "no")), "FAILED  list: no");
    }
}
