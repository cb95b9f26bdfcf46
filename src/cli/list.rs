//! `pocketvault list`

use clap::Args;
use serde_json::Value;

use crate::app::offline::Offline;
use crate::cli::output::{Output, print, size};
use crate::cli::remote::ServerOptions;
use crate::cli::{offline_config, on_runtime};
use crate::clock::Clock;
use crate::config::FolderOptions;
use crate::config::storage::StorageOptions;
use crate::error::Result;
use crate::http::faces::vault::listed_json;

/// Whose backups.
#[derive(Debug, Args)]
pub(super) struct ListOptions {
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    folder: FolderOptions,
    #[command(flatten)]
    storage: StorageOptions,
}

/// Runs the command: newest first.
pub(super) fn run(options: &ListOptions, output: Output) -> Result<()> {
    let mut backups = on_runtime(async {
        match options.server.connect().await? {
            Some(server) => Ok(rows(server.get("api/vault/backups").await?)),
            None => offline(options).await,
        }
    })?;
    backups.sort_by(|a, b| text(b, "modified").cmp(text(a, "modified")));
    if output.json {
        return print(Value::Array(backups));
    }
    let width = backups.iter().map(|one| text(one, "key").chars().count()).max().unwrap_or(0);
    for one in &backups {
        let bytes = size(one["size"].as_u64().unwrap_or_default());
        let made = text(one, "modified").get(..19).unwrap_or_default();
        let (key, more) = (text(one, "key"), remarks(one));
        let line = format!("{key:width$}  {bytes:>9}  {made}  {more}");
        print(line.trim_end())?;
    }
    Ok(())
}

async fn offline(options: &ListOptions) -> Result<Vec<Value>> {
    let config = offline_config(&options.folder, &options.storage)?;
    let open = Offline::look(&config, &Clock::system()).await?;
    let listed = open.vault.overview().await;
    open.close().await;
    Ok(listed?.into_iter().map(listed_json).collect())
}

/// The elements of a JSON array.
pub(super) fn rows(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    }
}

/// A text of a JSON object; empty when it has none.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// What is to be said about a backup besides its size and age.
fn remarks(backup: &Value) -> String {
    let mut said = Vec::new();
    match (backup["proof"]["ok"].as_bool(), text(&backup["proof"], "kind")) {
        (Some(true), "drill") => said.push("drilled".to_owned()),
        (Some(true), _) => said.push("verified".to_owned()),
        (Some(false), _) => said.push(format!("DAMAGED: {}", text(&backup["proof"], "said"))),
        (None, _) => said.push("not proven".to_owned()),
    }
    if text(backup, "state") == "waiting" {
        said.push("WAITS to be sent".to_owned());
    }
    if let Some(places) = backup["destinations"].as_array().filter(|places| places.len() > 1) {
        let stored = places.iter().filter(|place| text(place, "state") == "stored");
        let names: Vec<&str> = stored.map(|place| text(place, "name")).collect();
        said.push(format!("in {}", names.join(" and ")));
    }
    if backup["complete"] == false {
        said.push("INCOMPLETE".to_owned());
    }
    if backup["pinned"] == true {
        said.push("pinned".to_owned());
    }
    if !text(backup, "label").is_empty() {
        said.push(format!("{:?}", text(backup, "label")));
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn remarks_say_what_is_known() {
        let proof = |ok, kind| json!({"ok": ok, "kind": kind, "said": "torn"});
        for (backup, said) in [
            (json!({}), "not proven"),
            (json!({"proof": proof(true, "read"), "pinned": true}), "verified, pinned"),
            (json!({"proof": proof(true, "drill"), "label": "x"}), "drilled, \"x\""),
            (
                json!({"proof": proof(false, "read"), "complete": false}),
                "DAMAGED: torn, INCOMPLETE",
            ),
        ] {
            assert_eq!(remarks(&backup), said, "{backup}");
        }
    }
}
