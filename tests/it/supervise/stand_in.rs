//! A program to be run behind ours: this test binary itself, as a small HTTP server that does
//! what a PocketBase with hooks may do. How it behaves from its start on, a file in its data
//! folder says, so that data can be good or bad for it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

/// The file that says how to behave: `dies`, `silent`, or a status for the health.
pub(crate) const BEHAVIOUR: &str = "behaviour";
/// What it writes when a client of its events has gone.
pub(crate) const GONE: &str = "gone";
const ARGUMENTS: &str = "STAND_IN_ARGUMENTS";

/// What comes after `serve --`.
pub(crate) fn command() -> Vec<String> {
    let script = format!(
        "{ARGUMENTS}=\"$*\" exec \"$0\" --ignored --exact supervise::stand_in::serves --nocapture"
    );
    let own = env::current_exe().expect("this program").display().to_string();
    ["--", "sh", "-c", &script, &own].map(str::to_owned).to_vec()
}

#[test]
#[ignore = "the program that other tests run behind ours"]
fn serves() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    let words: Vec<&str> = arguments.split(' ').collect();
    let http = words.iter().find_map(|word| word.strip_prefix("--http=")).expect("an address");
    let dir = words.iter().skip_while(|word| **word != "--dir").nth(1).expect("a folder");
    let dir = PathBuf::from(dir);
    let behaviour = fs::read_to_string(dir.join(BEHAVIOUR)).unwrap_or_default();
    println!("the stand-in serves {behaviour:?}");
    match behaviour.as_str() {
        "dies" => process::exit(7),
        "silent" => thread::sleep(Duration::from_secs(600)),
        _ => {}
    }
    let listener = TcpListener::bind(http).expect("the address");
    for stream in listener.incoming() {
        let (dir, behaviour) = (dir.clone(), behaviour.clone());
        thread::spawn(move || serve(stream.expect("a connection"), &dir, &behaviour));
    }
}

fn serve(stream: TcpStream, dir: &Path, behaviour: &str) {
    let mut input = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut output = stream;
    while let Some(head) = head(&mut input) {
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let head_only = method == "HEAD";
        let answered = match path.split('?').next().unwrap_or("") {
            "/api/health" => {
                let status = behaviour.parse().unwrap_or(200);
                whole(&mut output, status, "", b"{\"code\":200}", head_only)
            }
            "/head" => {
                let text = head.join("\n") + "\n";
                let headers = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Odd-NAME: kept\r\n";
                whole(&mut output, 203, headers, text.as_bytes(), head_only)
            }
            "/pid" => {
                let pid = process::id().to_string();
                whole(&mut output, 200, "", pid.as_bytes(), head_only)
            }
            "/none" => output.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"),
            "/echo" => echo(&mut input, &mut output, &head),
            "/events" => events(&mut output, dir),
            "/tunnel" => tunnel(&mut input, &mut output),
            "/die" => process::exit(9),
            "/long" => {
                let left = output.try_clone().is_ok_and(leaves);
                fs::write(dir.join(GONE), left.to_string())
            }
            "/slow" => {
                thread::sleep(Duration::from_millis(1500));
                whole(&mut output, 200, "", b"slow", head_only)
            }
            _ => whole(&mut output, 418, "", b"{\"status\":418}", head_only),
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Whether the other side ends the connection before 20 s are over.
fn leaves(mut output: TcpStream) -> bool {
    let limit = output.set_read_timeout(Some(Duration::from_secs(20)));
    limit.is_ok() && matches!(output.read(&mut [0]), Ok(0))
}

fn head(input: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

fn value<'h>(head: &'h [String], name: &str) -> Option<&'h str> {
    head.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn whole(
    output: &mut TcpStream,
    status: u16,
    headers: &str,
    body: &[u8],
    head_only: bool,
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nKeep-Alive: timeout=9\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    output.write_all(head.as_bytes())?;
    if head_only { Ok(()) } else { output.write_all(body) }
}

/// Sends each piece back as it comes.
fn echo(input: &mut impl BufRead, output: &mut TcpStream, head: &[String]) -> std::io::Result<()> {
    output.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut piece = |bytes: &[u8]| {
        output.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        output.write_all(bytes)?;
        output.write_all(b"\r\n")
    };
    if let Some(length) = value(head, "content-length") {
        let mut left: usize = length.parse().expect("a length");
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            let size = left.min(buffer.len());
            let read = input.read(&mut buffer[..size])?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            piece(&buffer[..read])?;
            left -= read;
        }
    } else {
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let mut bytes = vec![0; size];
            input.read_exact(&mut bytes)?;
            input.read_line(&mut line)?;
            if size == 0 {
                break;
            }
            piece(&bytes)?;
        }
    }
    piece(b"")
}

/// An event each 50 ms, until the client has gone.
fn events(output: &mut TcpStream, dir: &Path) -> std::io::Result<()> {
    output.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for number in 0.. {
        let event = format!("data: {number}\n\n");
        let piece = format!("{:x}\r\n{event}\r\n", event.len());
        if let Err(error) = output.write_all(piece.as_bytes()) {
            fs::write(dir.join(GONE), "x")?;
            return Err(error);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whatever comes goes back, in upper case.
fn tunnel(input: &mut impl BufRead, output: &mut TcpStream) -> std::io::Result<()> {
    output.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          X-Tunnel: yes\r\n\r\n",
    )?;
    loop {
        let bytes = input.fill_buf()?.to_ascii_uppercase();
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        output.write_all(&bytes)?;
        input.consume(bytes.len());
    }
}
