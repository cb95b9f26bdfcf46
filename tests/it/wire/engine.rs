//! Runs cases against a server: steps, variables, requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Value, json};

use crate::archives::{small_zip, stored_zip};
use crate::raw::{Request, Response};
use crate::wire::bodies::rewritten;
use crate::wire::compare::{differences, overlaid};
use crate::wire::table::{Body, Call, Case, Common, Step, Template, Zip};
use crate::wire::variables::{Variables, fill, names};
use crate::wire::{ballast, jwt};

const UNTIL_MAX: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(50);

/// What went wrong in a step, in words.
pub(super) type Outcome<T> = Result<T, String>;

/// The server that is spoken to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) email: String,
    pub(super) password: String,
    /// Its `pb_data`, where we may put files.
    pub(super) data_dir: Option<PathBuf>,
    /// Whether it is a PocketBase, which knows nothing of our deviations.
    pub(super) is_peer: bool,
}

/// The state of a run over one table.
pub(super) struct Engine {
    target: Target,
    common: Common,
    variables: Variables,
    background: Vec<JoinHandle<()>>,
}

impl Engine {
    pub(super) fn new(target: Target, common: Common) -> Self {
        Self { target, common, variables: Variables::default(), background: Vec::new() }
    }

    pub(super) fn is_peer(&self) -> bool {
        self.target.is_peer
    }

    /// Runs one case; every difference, in words.
    pub(super) fn run(&mut self, case: &Case) -> Vec<String> {
        self.variables.case = HashMap::new();
        let mut found = match self.exchange(case) {
            Ok(found) => found,
            Err(fault) => vec![format!("setup: {fault}")],
        };
        let after = self.steps(&case.after);
        for thread in self.background.drain(..) {
            let _ = thread.join();
        }
        if let Err(fault) = after {
            found.push(format!("afterwards: {fault}"));
        }
        if !found.is_empty() {
            // The next case shall not fail because this one did.
            self.variables.session.clear();
            let _ = self.steps(&[Step::Named("defaultSettings".to_owned())]);
        }
        found
    }

    fn exchange(&mut self, case: &Case) -> Outcome<Vec<String>> {
        self.steps(&case.setup)?;
        let request = self.request(&case.send)?;
        let response = self.transmit(&request)?;
        let ours = if self.target.is_peer { None } else { case.ours.as_ref() };
        let want = overlaid(&case.answer, ours);
        self.learn(&format!("{want:?}"))?;
        Ok(differences(&want, &response, &self.common, &self.variables))
    }

    fn transmit(&self, request: &Request) -> Outcome<Response> {
        let line = || format!("{} {:.80}", request.method, request.target);
        request.send(self.target.address).map_err(|error| format!("{}: {error}", line()))
    }

    fn steps(&mut self, steps: &[Step]) -> Outcome<()> {
        steps.iter().try_for_each(|step| self.step(step))
    }

    fn step(&mut self, step: &Step) -> Outcome<()> {
        match step {
            Step::Named(text) => {
                let (name, arg) = match text.split_once(' ') {
                    Some((name, arg)) => (name, Some(Value::String(arg.to_owned()))),
                    None => (text.as_str(), None),
                };
                self.named(name, arg)
            }
            Step::Use { name, arg } => self.named(name, Some(arg.clone())),
            Step::Call(call) => self.call(call),
            Step::Until { until, pattern, every_ms } => {
                let every = every_ms.map_or(EVERY, Duration::from_millis);
                self.until(until, pattern, every)
            }
            Step::Sleep { sleep_ms } => {
                thread::sleep(Duration::from_millis(*sleep_ms));
                Ok(())
            }
            Step::Repeat { repeat, steps } => (0..*repeat).try_for_each(|_| self.steps(steps)),
            Step::Set { set, value, times } => {
                self.learn(value)?;
                let value = fill(value, &self.variables).repeat(*times);
                self.set(set, value)
            }
            Step::Jwt { jwt } => {
                let claims = self.filled(&jwt.claims)?;
                self.set(&jwt.var, jwt::sign(&jwt.header, &claims, &jwt.secret))
            }
            Step::Tamper { tamper, var } => {
                let token = self.value(tamper)?;
                self.set(var, jwt::tampered(&token))
            }
            Step::Purge { .. } => self.purge(),
            Step::Background { background } => {
                let request = self.request(background)?;
                let address = self.target.address;
                self.background.push(thread::spawn(move || {
                    let _ = request.send(address);
                }));
                Ok(())
            }
            Step::Join { .. } => {
                self.background.drain(..).for_each(|thread| thread.join().expect("no panic"));
                Ok(())
            }
            Step::Ballast { ballast_mb } => {
                let folder = self.target.data_dir.as_ref().ok_or("its folder is not known")?;
                ballast::set(folder, *ballast_mb).map_err(|error| format!("ballast: {error}"))
            }
        }
    }

    fn named(&mut self, name: &str, arg: Option<Value>) -> Outcome<()> {
        let steps = self.common.steps.get(name).ok_or(format!("no steps named {name}"))?.with(arg);
        self.steps(&steps).map_err(|fault| format!("{name}: {fault}"))
    }

    fn call(&mut self, call: &Call) -> Outcome<()> {
        let request = self.request(&call.call)?;
        let response = self.transmit(&request)?;
        let (mut statuses, mut pattern) = (&call.status, call.pattern.as_ref());
        if !self.target.is_peer {
            statuses = call.ours_status.as_ref().unwrap_or(statuses);
            pattern = call.ours_match.as_ref().or(pattern);
        }
        let text = response.text();
        if !statuses.is_empty() && !statuses.contains(&response.status) {
            let line = &call.call.line;
            return Err(format!("{line}: wanted {statuses:?}, got {} {text}", response.status));
        }
        if pattern.is_some_and(|pattern| !found(pattern, &text)) {
            return Err(format!("{}: not {pattern:?}: {text}", call.call.line));
        }
        for (var, how) in &call.capture {
            let value = match how.split_once(':') {
                Some(("header", name)) => response.header(name).unwrap_or_default().to_owned(),
                Some(("json", path)) => {
                    let json = response.json();
                    let pointer = format!("/{}", path.replace('.', "/"));
                    json.pointer(&pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
                }
                _ => return Err(format!("cannot capture {how}")),
            };
            self.set(var, value)?;
        }
        Ok(())
    }

    fn until(&mut self, template: &Template, pattern: &str, every: Duration) -> Outcome<()> {
        let end = Instant::now() + UNTIL_MAX;
        let mut last = String::new();
        while Instant::now() < end {
            // A server that replaces itself may refuse connections for a moment.
            let answer = self.request(template).and_then(|request| self.transmit(&request));
            match answer {
                Ok(response) if response.status == 200 && found(pattern, &response.text()) => {
                    return Ok(());
                }
                Ok(response) => last = format!("{} {}", response.status, response.text()),
                Err(fault) => last = fault,
            }
            thread::sleep(every);
        }
        Err(format!("{} never gave {pattern}, but {last}", template.line))
    }

    fn purge(&mut self) -> Outcome<()> {
        let token = self.value("superuserToken")?;
        let list = self.transmit(&Request::new("GET /api/backups").auth(&token))?;
        if list.status != 200 {
            return Err(format!("list: {} {}", list.status, list.text()));
        }
        for backup in list.json().as_array().expect("an array") {
            let key = backup["key"].as_str().expect("a key");
            let path: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let request = Request::new(&format!("DELETE /api/backups/{path}")).auth(&token);
            self.transmit(&request)?;
        }
        Ok(())
    }

    fn request(&mut self, template: &Template) -> Outcome<Request> {
        self.learn(&template.line)?;
        let mut request = Request::new(&fill(&template.line, &self.variables));
        if let Some(role) = &template.role {
            let token = self.value(&format!("{role}Token"))?;
            request = request.auth(&token);
        }
        for (name, value) in &template.headers {
            self.learn(value)?;
            request = request.header(name, fill(value, &self.variables));
        }
        if let Some(body) = &template.body {
            let (bytes, media_type) = self.body(body)?;
            if let Some(media_type) = media_type.filter(|_| !request.has_header("Content-Type")) {
                request = request.header("Content-Type", media_type);
            }
            request.body = Some(bytes);
        }
        request.chunked = template.chunked;
        request.no_host = template.no_host;
        request.version = template.version.clone().unwrap_or(request.version);
        Ok(request)
    }

    /// The bytes of a body, and the media type that goes with it unless one is given.
    fn body(&mut self, body: &Body) -> Outcome<(Vec<u8>, Option<String>)> {
        Ok(match body {
            Body::Json(value) => {
                let bytes = self.filled(value)?.to_string().into_bytes();
                (bytes, Some("application/json".to_owned()))
            }
            Body::Text(text) => {
                self.learn(text)?;
                (fill(text, &self.variables).into_bytes(), None)
            }
            Body::Base64(text) => (STANDARD.decode(text).expect("base64"), None),
            Body::Zip(zip) => {
                let archive = match zip {
                    Zip::Known(name) if name == "small" => small_zip(),
                    Zip::Known(name) => return Err(format!("no archive is called {name}")),
                    Zip::Made(entries) => stored_zip(entries),
                };
                (archive, Some("application/zip".to_owned()))
            }
            Body::Rewritten { key, ops } => {
                let token = self.value("fileToken")?;
                let request = Request::new(&format!("GET /api/backups/{key}?token={token}"));
                let archive = self.transmit(&request)?;
                if archive.status != 200 {
                    return Err(format!("download of {key}: {}", archive.status));
                }
                (rewritten(&archive.body, ops), Some("application/zip".to_owned()))
            }
            Body::Multipart { parts, boundary, cut } => {
                let boundary = boundary.as_deref().unwrap_or("wireBoundary");
                let mut out = Vec::new();
                for part in parts {
                    out.extend(format!("--{boundary}\r\n").bytes());
                    out.extend(format!("Content-Disposition: form-data; {}\r\n", part.is).bytes());
                    if let Some(media_type) = &part.media_type {
                        out.extend(format!("Content-Type: {media_type}\r\n").bytes());
                    }
                    out.extend(b"\r\n");
                    out.extend(self.body(&part.body)?.0);
                    out.extend(b"\r\n");
                }
                out.extend(format!("--{boundary}--\r\n").bytes());
                out.truncate(out.len() - cut);
                (out, Some(format!("multipart/form-data; boundary={boundary}")))
            }
        })
    }

    /// A value with every placeholder in it filled; `{"now": n}` is a time n seconds from now.
    fn filled(&mut self, value: &Value) -> Outcome<Value> {
        Ok(match value {
            Value::String(text) => {
                self.learn(text)?;
                Value::String(fill(text, &self.variables))
            }
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.filled(item)).collect::<Outcome<_>>()?)
            }
            Value::Object(map) => match map.get("now").and_then(Value::as_i64) {
                Some(offset) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                    json!(now.as_secs() as i64 + offset)
                }
                None => Value::Object(
                    map.iter()
                        .map(|(key, value)| Ok((key.clone(), self.filled(value)?)))
                        .collect::<Outcome<_>>()?,
                ),
            },
            other => other.clone(),
        })
    }

    fn set(&mut self, name: &str, value: String) -> Outcome<()> {
        self.variables.case.insert(name.to_owned(), value);
        Ok(())
    }

    /// Makes sure that every value that a text names is known.
    fn learn(&mut self, text: &str) -> Outcome<()> {
        names(text).iter().try_for_each(|name| self.value(name).map(drop))
    }

    /// A value, fetched from the server when it is asked for the first time.
    fn value(&mut self, name: &str) -> Outcome<String> {
        if let Some(value) = self.variables.get(name) {
            return Ok(value.clone());
        }
        match name {
            "superuserToken" | "superuserId" => self.login()?,
            "superuserEmail" => self.set(name, self.target.email.clone())?,
            "superuserPassword" => self.set(name, self.target.password.clone())?,
            "hostPort" => self.set(name, self.target.address.to_string())?,
            "fileToken" => {
                let token = self.value("superuserToken")?;
                let answer = self.transmit(&Request::new("POST /api/files/token").auth(&token))?;
                if answer.status != 200 {
                    return Err(format!("no file token: {} {}", answer.status, answer.text()));
                }
                self.set(name, answer.json()["token"].as_str().expect("a token").to_owned())?;
            }
            _ => {}
        }
        self.variables.get(name).cloned().ok_or(format!("unknown variable {name}"))
    }

    fn login(&mut self) -> Outcome<()> {
        let line = "POST /api/collections/_superusers/auth-with-password";
        let body = json!({"identity": self.target.email, "password": self.target.password});
        let answer = self.transmit(&Request::new(line).json(&body))?;
        if answer.status != 200 {
            return Err(format!("no login: {} {}", answer.status, answer.text()));
        }
        let json = answer.json();
        for (name, pointer) in [("superuserToken", "/token"), ("superuserId", "/record/id")] {
            let value = json.pointer(pointer).and_then(Value::as_str).expect("a text");
            self.variables.session.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

fn found(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("(?s){pattern}")).expect("a pattern").is_match(text)
}
