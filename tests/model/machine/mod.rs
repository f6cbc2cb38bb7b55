//! The machine that is explored: its rules, its world, and what must always hold in it.

pub(crate) mod breakage;
pub(crate) mod change;
mod execution_steps;
pub(crate) mod exploration;
pub(crate) mod fair;
pub(crate) mod law;
pub(crate) mod row;
pub(crate) mod scope;
pub(crate) mod sight;
pub(crate) mod step;
pub(crate) mod witness;
pub(crate) mod world;
