//! The demo of tidings.
fn main() {}
