//! Things that are too large: heads, targets, bodies, numbers.

use serde_json::json;

use super::{Attempt, UNAUTHENTICATED, UNKNOWN, UNREADABLE, Want, run};
use crate::harness::Server;
use crate::raw::Request;

pub(super) const COUNT: usize = 15;

const TOO_LARGE: Want = Want::Error(413, "Request entity too large.");

#[test]
fn what_is_too_large_is_refused() {
    let server = Server::start();
    let token = server.login();
    let get = |target: &str| Request::new(&format!("GET {target}"));
    let post = |target: &str| Request::new(&format!("POST {target}"));
    let login = "/api/collections/_superusers/auth-with-password";
    let big = |length: &str| {
        let request = post("/api/backups").auth(&token).header("Content-Length", length);
        request.body("application/json", "{}")
    };
    let mut many = get("/api/health");
    for n in 0..20_000 {
        many = many.header(&format!("X-Header-Number-{n}"), "a value that takes some room");
    }
    let mut chunked =
        post("/api/backups").auth(&token).body("application/json", "[".repeat(40 << 20));
    chunked.chunked = true;
    let long = "y".repeat(1_100_000);
    let attempts = [
        ("a header of a megabyte", get("/api/health").header("X", &long), HEAD_TOO_LARGE),
        ("a target of a megabyte", get(&format!("/api/{long}")), HEAD_TOO_LARGE),
        ("twenty thousand headers", many, HEAD_TOO_LARGE),
        ("a target of 60 kB", get(&format!("/api/{}", "y".repeat(60_000))), FILE_UNKNOWN),
        ("a token of half a megabyte", get("/api/backups").auth(&"A".repeat(500_000)), LONG_TOKEN),
        ("a query of 60 kB", get(&format!("/api/backups?{}", "y".repeat(60_000))), UNAUTHENTICATED),
        ("a body of 32 MiB and a byte", big("33554433"), TOO_LARGE),
        ("a body of 2^63 - 1 bytes", big("9223372036854775807"), TOO_LARGE),
        (
            "too large on a route that is none",
            post("/x").header("Content-Length", "33554433"),
            TOO_LARGE,
        ),
        ("40 MiB in chunks", chunked, Want::Status(&[400, 413])),
        (
            "an identity of a megabyte",
            post(login).json(&json!({"identity": &long, "password": "x"})),
            Want::Invalid("identity", "validation_length_out_of_range"),
        ),
        (
            "a password of a megabyte",
            post(login).json(&json!({"identity": "a", "password": &long})),
            Want::Invalid("password", "validation_length_out_of_range"),
        ),
        (
            "a duration beyond all numbers",
            post("/api/collections/_superusers/impersonate/x")
                .auth(&token)
                .body("application/json", "{\"duration\":1e400}"),
            Want::Status(&[400, 404]),
        ),
        (
            "a collection name of 60 kB",
            post(&format!("/api/collections/{}/auth-refresh", "c".repeat(60_000))).auth(&token),
            Want::Error(404, "Missing or invalid collection context."),
        ),
        (
            "settings of 10,000 unknown keys in a broken object",
            Request::new("PATCH /api/settings").auth(&token).body(
                "application/json",
                format!("{{{}", (0..10_000).map(|n| format!("\"k{n}\":1,")).collect::<String>()),
            ),
            UNREADABLE,
        ),
    ]
    .map(|(name, request, want)| Attempt::new(name, &server, &request, want));
    assert_eq!(attempts.len(), COUNT);
    run(&server, &attempts);
    assert!(UNKNOWN.fault(&server.send(&Request::new("POST /x"))).is_none());
}

/// PocketBase reads heads of up to a megabyte, we refuse earlier.
const LONG_TOKEN: Want = Want::Refused(&[401, 431]);
const FILE_UNKNOWN: Want = Want::Error(404, "File not found.");
const HEAD_TOO_LARGE: Want = Want::Status(&[431]);
