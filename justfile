# The recipes; `just --list` shows them. CI runs `.ci/run`.

# Serve ./pb_data on 127.0.0.1:8090.
serve *args:
    cargo run --release -- serve {{args}}

# All tests.
test *args:
    cargo test {{args}}

# What CI wants before the tests.
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# The real clients and the real PocketBases.
peers *args:
    cargo test --test peers -- {{args}}

# The clients' scripts against a real PocketBase, to prove the scripts themselves.
peers-against pocketbase:
    POCKETVAULT_PEER_BASE_CMD={{pocketbase}} cargo test --test peers -- scripts raw

# The recorded exchanges with PocketBase.
wire *args:
    cargo test --test it wire {{args}}

# Ours beside a real PocketBase on the same data; see docs/performance.md.
versus *args:
    python3 benches/versus/run.py {{args}}

# Everything that CI does.
ci:
    .ci/run

# Licenses, banned crates and sources; `cargo install --locked cargo-deny` first.
deny:
    cargo deny check licenses bans sources

# What a package holds beside the program: completions and manual pages, in target/package.
package:
    cargo build --release --locked
    mkdir -p target/package/man target/package/completions
    target/release/pocketvault man target/package/man
    target/release/pocketvault completions bash > target/package/completions/pocketvault
    target/release/pocketvault completions zsh > target/package/completions/_pocketvault
    target/release/pocketvault completions fish > target/package/completions/pocketvault.fish
    cp contrib/systemd/pocketvault.service contrib/systemd/pocketvault.socket target/package/

# One file without any library, for any Linux (rustup target add, and musl-tools of Debian).
static:
    rustup target add x86_64-unknown-linux-musl
    cargo build --release --locked --target x86_64-unknown-linux-musl

# The program, for whoever has Rust.
install:
    cargo install --locked --path .
