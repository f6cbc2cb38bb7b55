//! Traces of the real stores and schedulers, and what the model says to them.

mod call;
mod drive;
mod log;
mod obligations;
mod plan;
mod recorded;
mod recorder;
mod replay;
mod rows;
mod schedulers;
mod seeds;
mod stores;
mod tampered;
mod values;
