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
