//! The way of a request, step by step, in PocketBase's order.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_http::{ConnectionType, HttpService};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::{AppConfig, Server, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, web};
use percent_encoding::percent_decode_str;

use crate::auth::keys::TokenKind;
use crate::auth::record::Identity;
use crate::error::{Context, Error, Kind, Result};
use crate::http::body::BODY_BYTES_MAX;
use crate::http::call::{self, Call};
use crate::http::connection::Gate;
use crate::http::door::{self, Door};
use crate::http::faces;
use crate::http::fault::ApiError;
use crate::http::routes::Route;
use crate::http::services::Services;
use crate::http::{admission, audited};
use crate::http::{cleanup, connection, cors, forward, json};
use crate::settings::addresses::{self, Address};
use crate::settings::{Settings, limits};
use crate::vault::tokens::Tokens;

/// How long a client may take for the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may go on sending after an answer that ends its connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long requests in flight may go on after a stop or a restart was asked for. New clients
/// wait as long; a download that is cut goes on by a range.
const SHUTDOWN_TIMEOUT_S: u64 = 5;
/// Threads that serve connections; the work that is heavy runs elsewhere.
const WORKERS_MAX: usize = 4;

/// The headers of every answer that came as far as the routes.
const SECURITY_HEADERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-xss-protection", "1; mode=block"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Starts serving on a bound listener. The server runs when it is awaited.
///
/// # Errors
/// The listener cannot be used.
pub fn start(listener: TcpListener, door: &Arc<Door>) -> Result<(Server, ServerHandle)> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(WORKERS_MAX);
    let door = web::Data::from(door.clone());
    let address = listener.local_addr().context("cannot serve on the listener")?;
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    // As `actix_web::HttpServer` does it, but for the connections, which are ours.
    let serve = move || {
        let stopping = stopping.clone();
        let app = App::new().app_data(door.clone()).default_service(web::to(handle));
        let app = app.into_factory().map_err(|error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .on_connect_ext(|gate: &Gate, data| drop(data.insert(gate.departure())))
            .local_addr(address);
        connection::worded(http.h1(map_config(app, |()| AppConfig::default())))
    };
    let server = builder
        .workers(workers)
        .shutdown_timeout(SHUTDOWN_TIMEOUT_S)
        .disable_signals()
        .listen("http", listener, serve)
        .context("cannot serve on the listener")?
        .run();
    let handle = server.handle();
    Ok((server, handle))
}

async fn handle(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> HttpResponse {
    let mut response = match door.enter().await {
        Some(services) => attended(&request, payload, services).await,
        None => door::try_later(&request),
    };
    if door.is_leaving() && !forward::is_tunnel(&response) {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    canonical(response)
}

async fn attended(
    request: &HttpRequest,
    payload: web::Payload,
    services: Arc<Services>,
) -> HttpResponse {
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let passed = services.program.as_ref().filter(|_| !faces::is_ours(&services, request));
    let origins = cors::decide(&services.origins, &method, &headers);
    let mut response = if let Some(program) = passed {
        let payload = payload.into_inner();
        match forward::forward(request, payload, &services, &program.front).await {
            Ok(response) => return response,
            Err(response) => response,
        }
    } else {
        let verdict = cleanup::judge(&method, request.uri(), &headers, &services.host);
        if let Some(response) = cleanup::answer(&verdict, &method) {
            return response;
        }
        match origins.answered {
            true => json::respond_empty(StatusCode::NO_CONTENT),
            false => answer(request.clone(), payload, services).await,
        }
    };
    for (name, value) in origins.headers {
        response.headers_mut().append(name, value);
    }
    response
}

/// Header names as Go writes them.
fn canonical(mut response: HttpResponse) -> HttpResponse {
    response.head_mut().set_camel_case_headers(true);
    response
}

async fn answer(
    request: HttpRequest,
    payload: web::Payload,
    services: Arc<Services>,
) -> HttpResponse {
    let (call, refused) = match arrive(request.clone(), payload, services).await {
        Ok(arrived) => arrived,
        Err(error) => return error.respond(&request),
    };
    if let Some(refused) = refused {
        // PocketBase refuses before it sets these headers.
        return refused.respond(&request);
    }
    let mut response = match serve(call).await {
        Ok(response) => response,
        Err(error) => error.respond(&request),
    };
    secure(response.headers_mut());
    response
}

/// Who calls, and from where. The second value is the refusal of a superuser who may not come
/// from there.
async fn arrive(
    request: HttpRequest,
    payload: web::Payload,
    services: Arc<Services>,
) -> Result<(Call, Option<ApiError>), ApiError> {
    let settings = services.settings.current().await?;
    services.follow(&settings);
    let caller = caller(&request, &services).await?;
    let token = match call::token_of(&request).filter(|text| Tokens::is_token(text)) {
        Some(text) => services.tokens.find(text).await?,
        None => None,
    };
    let address = address_of(&request, &settings);
    let real_ip = address.expanded();
    let payload = payload.into_inner();
    let (admitted, said) = (false, OnceLock::new());
    let call = Call {
        request,
        payload,
        services,
        settings,
        caller,
        token,
        admitted,
        said,
        address,
        real_ip,
    };
    let superuser =
        call.token.is_some() || call.caller.as_ref().is_some_and(Identity::is_superuser);
    let refused = (superuser && !call.superuser_may_come_from_here())
        .then(|| ApiError::forbidden("You are not allowed to perform this request."));
    Ok((call, refused))
}

/// Where a request comes from, proxies that the settings trust seen through.
pub fn address_of(request: &HttpRequest, settings: &Settings) -> Address {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    let trusted = &settings.values().trusted_proxy;
    addresses::real_ip(trusted, peer, |name| call::values_of(request, name))
}

async fn caller(request: &HttpRequest, services: &Services) -> Result<Option<Identity>, ApiError> {
    match call::token_of(request) {
        None | Some("") => Ok(None),
        Some(token) => Ok(services.directory.identify(token, TokenKind::Auth).await?),
    }
}

async fn serve(mut call: Call) -> Result<HttpResponse, ApiError> {
    let route = faces::route(&call.services, &call.request);
    let deed = audited::deed(&route);
    let answer = dispatch(&mut call, route).await;
    if let Some(deed) = deed {
        audited::write(&call, deed, &answer).await;
    }
    answer
}

async fn dispatch(call: &mut Call, route: Route) -> Result<HttpResponse, ApiError> {
    let checked = match check_rate(call, &route).await {
        Ok(()) => check_length(call, &route),
        Err(error) => Err(error),
    };
    match checked {
        Err(error) if matches!(route, Route::Scalingo(_)) => {
            return Ok(faces::scalingo::told(call, &error));
        }
        checked => checked?,
    }
    admission::admit(call, &route).await?;
    faces::dispatch(call, route).await
}

async fn check_rate(call: &Call, route: &Route) -> Result<(), ApiError> {
    let limits = &call.settings.values().rate_limits;
    if !limits.enabled {
        return Ok(());
    }
    let (name, tags) = route.limit_tags();
    let collection = match name {
        Some(name) => call.services.directory.collection(&String::from_utf8_lossy(name)).await?,
        None => None,
    };
    let path = percent_decode_str(call.request.uri().path()).decode_utf8_lossy();
    let request = limits::Request {
        method: call.request.method().as_str(),
        path: &path,
        sender: &call.address,
        signed_in: call.caller.is_some(),
        superuser: call.caller.as_ref().is_some_and(Identity::is_superuser),
        collection: collection.as_ref().map(|collection| limits::CollectionRoute {
            id: &collection.id,
            name: &collection.name,
            pattern: route.pattern(),
            tags,
        }),
    };
    match call.services.limits.allows(limits, &request) {
        true => Ok(()),
        false => Err(Error::new(Kind::Throttled, "a rate limit was reached").into()),
    }
}

fn check_length(call: &Call, route: &Route) -> Result<(), ApiError> {
    let length = call.request.headers().get(CONTENT_LENGTH);
    let length: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    if *route != Route::BackupUpload && length.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "Request entity too large."));
    }
    Ok(())
}

fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        // A face may be stricter.
        if !headers.contains_key(name) {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
}

impl Call {
    /// Whether a superuser may come from the address of this request.
    pub fn superuser_may_come_from_here(&self) -> bool {
        let allowed = &self.settings.values().superuser_ips;
        addresses::superuser_may_come_from(allowed, &self.address)
    }
}
