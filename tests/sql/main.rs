//! Tests that need database servers; `tests/run` provides them.

mod private_servers;
mod server;
