//! Schedulers, executor and processor on the in-memory store, attacked.

mod hooks;
mod isolation;
mod leases;
mod life_cycle;
mod outcomes;
mod raising;
mod reports;
mod rig;
mod several;
mod shutdown;
mod transactional;
