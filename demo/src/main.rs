//! The demo of tidings.
mod arguments;
mod cloud_events;
mod handlers;
mod happenings;
mod input;
mod payloads;
mod shutdown;
mod tallies;
fn main() {}
