//! `GET /api/databases/{db}/backups/{id}/download?token=…`

use crate::backup::DUMP_SUFFIX;
use crate::http::call::Call;
use crate::http::download::{self, Object, Source};
use crate::http::faces::scalingo::bundle::Bundle;
use crate::http::faces::scalingo::guard;
use crate::http::faces::scalingo::refusal::{Refusal, Reply};
use crate::http::faces::scalingo::{Scalingo, shapes, target_of};
use crate::http::query;
use crate::vault::orders::OrderState;

/// Sends a backup to whoever has a link to it: no header is needed.
pub(super) async fn download(call: &Call, face: &Scalingo, db: &str, id: &str) -> Reply {
    let token = query::first(call.request.query_string(), "token").unwrap_or_default();
    let closed = || Refusal::unauthorized("The link is not valid, or has ended.");
    let addon = face.addon(db).ok_or_else(closed)?;
    if !guard::opens(call, face, &token, addon, id) {
        return Err(closed());
    }
    let order = face.orders.find(target_of(addon), id).await?;
    let gone = || Refusal::not_found("backup");
    let key = order.key.clone().filter(|_| order.state == OrderState::Done).ok_or_else(gone)?;
    let target = face.orders.target(target_of(addon)).ok_or_else(gone)?;
    let (storage, backup) = target.locate(&key).await?;
    let name = shapes::name(addon, &order);
    let member = match key.as_str().ends_with(DUMP_SUFFIX) {
        true => format!("{name}.pgsql"),
        false => format!("{name}.zip"),
    };
    let bundle = Bundle::new(&member, backup.size_bytes, backup.modified);
    let object = Object {
        name: format!("{name}.tar.gz"),
        size_bytes: bundle.size_bytes(),
        modified: backup.modified,
        content_type: "application/gzip".to_owned(),
    };
    tracing::info!(%key, ip = call.real_ip, "a backup is downloaded by a link");
    let source = Source::Ranges(Box::new(move |range| {
        let (bundle, storage, key) = (bundle.clone(), storage.clone(), key.clone());
        Box::pin(async move { bundle.open(range, storage.as_ref(), &key).await })
    }));
    Ok(download::respond(&call.request, &object, source).await?)
}
