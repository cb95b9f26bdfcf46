//! The routes that we share with a program behind us: it answers, and what is ours is laid
//! over its answer. Its settings are its own but for the schedule and the trusted proxies; its
//! jobs are its own but for the automatic backup.

use std::future::poll_fn;
use std::pin::Pin;

use actix_web::HttpResponse;
use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use hyper::body::Body as _;
use serde_json::{Value, json};

use crate::front::{Outgoing, Unanswered};
use crate::http::body::{BODY_BYTES_MAX, Body};
use crate::http::call::Call;
use crate::http::door;
use crate::http::fault::{Answer, ApiError, LOADING, SOMETHING};
use crate::http::forward;
use crate::http::guard::Superuser;
use crate::http::respond;
use crate::http::services::Behind;
use crate::settings::held::{Held, without_held};
use crate::settings::{Patch, PatchError};
use crate::vault::schedule::Task;

use super::settings::SAVING;

/// What is ours of the settings: the rules of these sections are checked by us.
const OURS: [&str; 2] = ["backups.", "trustedProxy."];

/// `GET /api/settings`
pub(super) async fn settings(call: &Call, program: &Behind, _: &Superuser) -> Answer<HttpResponse> {
    let said = ask(call, program, Method::GET, "/api/settings", None).await?;
    laid_over(call, program, said)
}

/// `PATCH /api/settings`: ours is checked by us, the rest by the program, and nothing is saved
/// unless both agree.
pub(super) async fn change_settings(
    call: &mut Call,
    program: &Behind,
    superuser: &Superuser,
) -> Answer<HttpResponse> {
    let body = call.body().await.map_err(|_| ApiError::bad_request(LOADING))?;
    let _alone = program.changing.lock().await;
    let current = call.services.settings.current().await?;
    let nothing = json!({});
    let patched = match &body {
        Body::Absent => current.patched(Patch::Json(&nothing)),
        Body::Json(patch) => current.patched(Patch::Json(patch)),
        Body::Form(fields) => current.patched(Patch::Form(fields)),
        Body::Xml(_) => Err(PatchError::Load),
    };
    let (next, mut violations) = patched.map_err(|_| ApiError::bad_request(LOADING))?;
    violations.retain(|broken| OURS.iter().any(|ours| broken.field.starts_with(ours)));
    if !violations.is_empty() {
        return Err(ApiError::invalid(SAVING, &violations));
    }
    let held = Held::of(&next);
    let changed = held != Held::of(&current);
    let mut patch = match &body {
        Body::Json(patch) => without_held(patch),
        // Everything as it is now and will be: nothing that the form left out is changed.
        _ => without_held(&next.to_json()),
    };
    if changed && let Value::Object(sections) = &mut patch {
        // The row carries it, so that it is in every backup.
        let instead = program.keeper.instead(&held)?;
        sections.insert("trustedProxy".to_owned(), json!(instead.trusted_proxy));
    }
    let said = ask(call, program, Method::PATCH, "/api/settings", Some(&patch)).await?;
    if said.0 == StatusCode::OK && changed {
        program.keeper.save(held).map_err(|error| {
            tracing::error!(error = error.full(), "cannot keep the schedule");
            ApiError::bad_request(SAVING)
        })?;
        tracing::info!(by = superuser.email(), "changed the schedule or the proxies");
    }
    // Whatever was changed, the next request is passed on by it.
    if let Ok(settings) = call.services.settings.current().await {
        call.services.follow(&settings);
    }
    laid_over(call, program, said)
}

fn laid_over(
    call: &Call,
    program: &Behind,
    (status, body): (StatusCode, Bytes),
) -> Answer<HttpResponse> {
    let Ok(mut document) = serde_json::from_slice::<Value>(&body) else {
        return Ok(forward::repeated(status, body));
    };
    if status != StatusCode::OK {
        return Ok(forward::repeated(status, body));
    }
    if let Some(held) = program.keeper.current() {
        held.lay_over(&mut document);
    }
    respond::ok(call, &document)
}

/// `GET /api/crons`: the program's jobs and ours.
pub(super) async fn crons(call: &Call, program: &Behind, _: &Superuser) -> Answer<HttpResponse> {
    let (status, body) = ask(call, program, Method::GET, "/api/crons", None).await?;
    let Ok(mut jobs) = serde_json::from_slice::<Vec<Value>>(&body) else {
        return Ok(forward::repeated(status, body));
    };
    jobs.retain(|job| job["id"] != Task::AutoBackup.id());
    let ours = call.services.scheduler.crons().await?.into_iter();
    jobs.extend(ours.map(|cron| json!({ "id": cron.task.id(), "expression": cron.expression })));
    respond::ok(call, &jobs)
}

/// Whether the program is well, in its own words if it is not.
pub(super) async fn unwell(call: &Call, program: &Behind) -> Answer<Option<HttpResponse>> {
    let (status, body) = ask(call, program, Method::GET, "/api/health", None).await?;
    Ok((status != StatusCode::OK).then(|| forward::repeated(status, body)))
}

/// Asks the program in the caller's name.
async fn ask(
    call: &Call,
    program: &Behind,
    method: Method,
    path: &str,
    json: Option<&Value>,
) -> Answer<(StatusCode, Bytes)> {
    let unusable = |_| ApiError::bad_request(SOMETHING);
    let (mut parts, ()) = forward::head(&call.request, &call.services).await?.into_parts();
    parts.method = method;
    parts.uri = path.parse().map_err(unusable)?;
    for name in [
        http::header::ACCEPT_ENCODING,
        http::header::CONNECTION,
        http::header::CONTENT_LENGTH,
        http::header::CONTENT_TYPE,
        http::header::UPGRADE,
    ] {
        parts.headers.remove(name);
    }
    let mut body = Outgoing::empty();
    if let Some(json) = json {
        let media = http::HeaderValue::from_static("application/json");
        parts.headers.insert(http::header::CONTENT_TYPE, media);
        body = Outgoing::whole(json.to_string().into());
    }
    let answer = program.front.pass(http::Request::from_parts(parts, body)).await;
    let answer = answer.map_err(|error| unavailable(&error))?;
    let status = answer.status();
    let (mut body, mut gathered) = (answer.into_body(), BytesMut::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| unavailable(&Unanswered::Broken(error.to_string())))?;
        gathered.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if gathered.len() as u64 > BODY_BYTES_MAX {
            return Err(unavailable(&Unanswered::Broken("too long an answer".to_owned())));
        }
    }
    Ok((status, gathered.freeze()))
}

fn unavailable(why: &Unanswered) -> ApiError {
    tracing::warn!(?why, "a route that is shared with the program cannot be answered");
    match why {
        Unanswered::Down => door::later(),
        Unanswered::Broken(_) => forward::broke_off(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::RETRY_AFTER;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn who_may_have_been_heard_is_not_told_to_try_again() {
        let request = TestRequest::get().to_http_request();
        let answer = |why| unavailable(&why).respond(&request);
        let broken = answer(Unanswered::Broken("reset".to_owned()));
        assert_eq!(broken.status().as_u16(), 502);
        assert!(!broken.headers().contains_key(RETRY_AFTER));
        let down = answer(Unanswered::Down);
        assert_eq!(down.status().as_u16(), 503);
        assert!(down.headers().contains_key(RETRY_AFTER));
    }
}
