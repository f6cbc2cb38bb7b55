//! The test kit itself: what it tells apart, and what its failing assertions say.

mod drain;
mod given;
mod raised;
mod shop;
mod wait;
