//! Schedulers, executor and processor on the in-memory store, attacked.

#[cfg(test)]
mod dropped_transactions;
#[cfg(test)]
mod held_back;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod idle;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod late_claims;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod life_cycle;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod lost_answers;
#[cfg(test)]
mod needless_calls;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod process;
#[cfg(test)]
mod raising;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod several;
#[cfg(test)]
mod shared_transactions;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod transactional;
#[cfg(test)]
mod wake_ups;
