//! `serve -- PROGRAM`: everything that is not ours goes to the program, as it is; it is started
//! again when it dies; nobody is refused while that, a restart or a restore goes on.

mod passing;
mod restoring;
mod stand_in;
mod waiting;

use std::process::Command;

use crate::harness::Server;

/// Our server before the stand-in, and a token of its superuser: the stand-in knows nobody, so
/// it comes from a server that was alone with the data before.
fn server() -> (Server, String) {
    server_with(&[])
}

fn server_with(arguments: &[&str]) -> (Server, String) {
    let alone = Server::start_ours();
    let token = alone.login();
    (before_the_stand_in(alone, arguments), token)
}

fn before_the_stand_in(server: Server, arguments: &[&str]) -> Server {
    let mut all: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    all.extend(stand_in::command());
    server.again_with(&all)
}

#[test]
fn a_command_line_that_contradicts_itself_is_refused_with_words() {
    let home = tempfile::tempdir().expect("a folder");
    let cases: [(&[&str], &str); 6] = [
        (&["--", "pb", "serve", "--http=0.0.0.0:9000"], "loopback"),
        (&["--", "pb", "serve", "--https=127.0.0.1:9000"], "--https"),
        (&["--http=127.0.0.1:9001", "--", "pb", "serve", "--http", "127.0.0.1:9001"], "own"),
        (&["--dir=a", "--", "pb", "serve", "--dir=b"], "--dir"),
        (&["--beside", "--", "pb", "serve"], "--beside"),
        (&["--http=127.0.0.1:0", "--", "no-such-program", "serve"], "cannot run no-such-program"),
    ];
    for (arguments, word) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_pocketvault"))
            .arg("serve")
            .args(arguments)
            .current_dir(home.path())
            .output()
            .expect("the program");
        let said = String::from_utf8_lossy(&output.stderr);
        let mut lines = said.lines();
        let refused = |line: &str| line.starts_with("Error: ") && line.contains(word);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(lines.any(refused), "{arguments:?}: {said}");
    }
}
