//! Fifty clients at once: one winner where there can be one only, and nobody sees a half.

use std::sync::Barrier;
use std::thread;

use serde_json::json;

use super::{assert_sound, file_token, keys_listed, upload};
use crate::archives::{read_zip, small_zip};
use crate::harness::Server;
use crate::raw::{Request, Response};
use crate::wire::ballast;

const CLIENTS: usize = 50;
const BUSY: &str = "Try again later - another backup/restore process has already been started.";

/// Sends every request from a thread of its own, all at the same moment.
fn at_once(server: &Server, requests: &[Request]) -> Vec<Response> {
    let barrier = Barrier::new(requests.len());
    thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| {
                scope.spawn(|| {
                    barrier.wait();
                    server.send(request)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

fn count(answers: &[Response], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn create(token: &str, name: &str) -> Request {
    Request::new("POST /api/backups").auth(token).json(&json!({ "name": name }))
}

#[test]
fn of_fifty_creates_of_one_name_one_wins() {
    let server = Server::start_ours();
    let token = server.login();
    let answers = at_once(&server, &vec![create(&token, "one.zip"); CLIENTS]);
    assert_eq!(count(&answers, 204), 1);
    for answer in answers.iter().filter(|answer| answer.status != 204) {
        assert_eq!(answer.status, 400, "{}", answer.text());
        let taken = answer.json()["data"]["name"]["code"] == "validation_backup_name_exists";
        assert!(taken || answer.json()["message"] == BUSY, "{}", answer.text());
    }
    assert_eq!(keys_listed(&server, &token), ["one.zip"]);
    let token = file_token(&server, &token);
    let archive = server.send(&Request::new(&format!("GET /api/backups/one.zip?token={token}")));
    assert!(read_zip(&archive.body).iter().any(|member| member.name == "data.db"));
    assert_sound(&server);
}

#[test]
fn of_fifty_creates_at_a_time_one_wins_and_the_others_are_told_to_wait() {
    let server = Server::start_ours();
    let token = server.login();
    // So much to do that the first one is still at it when the last one comes.
    ballast::set(&server.data_dir(), 200).expect("room");
    let requests: Vec<_> =
        (0..CLIENTS).map(|n| create(&token, &format!("number-{n}.zip"))).collect();
    let answers = at_once(&server, &requests);
    ballast::set(&server.data_dir(), 0).expect("removed");
    assert_eq!(count(&answers, 204), 1);
    for answer in answers.iter().filter(|answer| answer.status != 204) {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["message"], BUSY);
    }
    assert_eq!(keys_listed(&server, &token).len(), 1);
    assert_sound(&server);
}

#[test]
fn of_fifty_restores_and_creates_at_a_time_one_wins() {
    let server = Server::start_ours();
    let token = server.login();
    // A big backup, so that its restore is still being staged when the last request comes.
    ballast::set(&server.data_dir(), 200).expect("room");
    assert_eq!(server.send(&create(&token, "base.zip")).status, 204);
    let restore = Request::new("POST /api/backups/base.zip/restore").auth(&token);
    let mut requests = vec![restore; CLIENTS / 2];
    requests.extend((0..CLIENTS / 2).map(|n| create(&token, &format!("number-{n}.zip"))));
    let answers = at_once(&server, &requests);
    assert_eq!(count(&answers, 204), 1);
    for answer in answers.iter().filter(|answer| answer.status != 204) {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["message"], BUSY);
    }
    server.wait_until_idle(&token);
    assert_sound(&server);
}

#[test]
fn of_fifty_uploads_of_one_name_one_is_stored() {
    let server = Server::start_ours();
    let token = server.login();
    let answers = at_once(&server, &vec![upload("one.zip", &small_zip()).auth(&token); CLIENTS]);
    assert_eq!(count(&answers, 204), 1);
    for answer in answers.iter().filter(|answer| answer.status != 204) {
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["data"]["file"]["code"], "validation_backup_name_exists");
    }
    assert_eq!(keys_listed(&server, &token), ["one.zip"]);
    assert_sound(&server);
}

#[test]
fn fifty_uploads_of_fifty_names_are_all_stored_and_never_seen_half() {
    let server = Server::start_ours();
    let token = server.login();
    let mut requests: Vec<_> = (0..CLIENTS)
        .map(|n| upload(&format!("number-{n}.zip"), &small_zip()).auth(&token))
        .collect();
    requests.extend(vec![Request::new("GET /api/backups").auth(&token); CLIENTS]);
    let answers = at_once(&server, &requests);
    let (uploads, lists) = answers.split_at(CLIENTS);
    assert_eq!(count(uploads, 204), CLIENTS);
    for list in lists {
        for backup in list.json().as_array().expect("a list") {
            assert_eq!(backup["size"], small_zip().len(), "{backup}");
        }
    }
    assert_eq!(keys_listed(&server, &token).len(), CLIENTS);
    assert_sound(&server);
}

#[test]
fn a_delete_and_a_download_do_not_hurt_each_other() {
    let server = Server::start_ours();
    let token = server.login();
    let download = format!("GET /api/backups/one.zip?token={}", file_token(&server, &token));
    for _ in 0..5 {
        assert_eq!(server.send(&upload("one.zip", &small_zip()).auth(&token)).status, 204);
        let mut requests = Vec::new();
        for _ in 0..CLIENTS / 2 {
            requests.push(Request::new(&download));
            requests.push(Request::new("DELETE /api/backups/one.zip").auth(&token));
        }
        let answers = at_once(&server, &requests);
        let mut deleted = 0;
        for (request, answer) in requests.iter().zip(&answers) {
            match (request.method.as_str(), answer.status) {
                ("GET", 200) => assert_eq!(answer.body, small_zip()),
                ("GET", 404) | ("DELETE", 400) => {}
                ("DELETE", 204) => deleted += 1,
                other => panic!("{other:?} {}", answer.text()),
            }
        }
        assert_eq!(deleted, 1);
    }
    assert_sound(&server);
}

#[test]
fn fifty_logins_all_get_in_and_fifty_settings_are_all_whole() {
    let server = Server::start_ours();
    let token = server.login();
    let login = Request::new("POST /api/collections/_superusers/auth-with-password")
        .json(&json!({"identity": crate::harness::EMAIL, "password": crate::harness::PASSWORD}));
    let mut requests = vec![login; 10];
    for n in 0..CLIENTS - 10 {
        let name =
            json!({"meta": {"appName": format!("app {n}"), "senderName": format!("app {n}")}});
        requests.push(Request::new("PATCH /api/settings").auth(&token).json(&name));
    }
    let answers = at_once(&server, &requests);
    assert_eq!(count(&answers, 200), CLIENTS);
    let meta = server.send(&Request::new("GET /api/settings").auth(&token)).json()["meta"].clone();
    assert_eq!(meta["appName"], meta["senderName"]);
    assert_sound(&server);
}
