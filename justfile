# The daily commands. Nothing exists only here: each is one command that can be typed without just.

# List the recipes.
help:
    @just --list --unsorted

# The whole hub on this machine, with sandbox platforms and a demo user.
run:
    cargo run

# Every test; or, with arguments, some of them: `just test -p hub-store keys`.
test *arguments="--workspace":
    cargo test {{ arguments }}

# Format everything.
fmt:
    cargo fmt --all

# What the compiler and clippy have to say; nothing is allowed.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, sources, forbidden and doubled crates, known vulnerabilities.
deny:
    cargo deny --workspace check

# Everything that must pass; or some steps of it: `just ci fmt clippy`.
ci *steps:
    .ci/run {{ steps }}

# Bring the database of DATABASE_URL up to this version.
migrate:
    cargo run -- migrate

# Serve REST, webhooks and sockets against DATABASE_URL.
api:
    cargo run -- api

# Work against DATABASE_URL.
worker:
    cargo run -- worker

# How fast it is on this machine, next to a peer: `just bench append`, ingest, replay, query or sockets.
bench *arguments:
    cargo run --release -- bench {{ arguments }}

# Ask a running hub everything its description allows and much it does not: `just fuzz-api -n 200`.
fuzz-api *arguments:
    .ci/fuzz-api {{ arguments }}

# What the hub makes of a platform's raw body: `just translate telegram body.json`.
translate platform file:
    cargo run --quiet -- translate {{ platform }} {{ file }}

# The documentation of the code, in a browser.
docs:
    cargo doc --workspace --no-deps --open

# Delete the database and the secrets of `cargo run`. Stop it first.
[confirm("Delete the data folder of `cargo run`, with its database and keys?")]
clean-data:
    rm -rf "${HUB_DATA_DIR:-.hub}"
