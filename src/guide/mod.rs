//! The guide: what tidings promises, how it works and how to work with it. The examples run.
//!
//! | page | for |
//! | --- | --- |
//! | [`introduction`] | the words and the way of an event, from raise to settle |
//! | [`handlers`] | everything a handler can take, answer and be told |
//! | [`raising`] | transactions, typed events, entities, ids, correlation, limits |
//! | [`states`] | every transition of a handler request |
//! | [`guarantees`] | what is promised, which test attacks it, and what is not promised |
//! | [`attacks`] | what attacks all guarantees at once, how to run it, and what came of it |
//! | [`postgresql`], [`sqlite`], [`mysql`] | what each SQL store promises, locks, opens and needs |
//! | [`production`] | several processes, deployments, migrations, upgrading, a checklist |
//! | [`operating`] | counts, dead requests, cancel, reexecute, replay, deployments, retention, shutdown |
//! | [`performance`] | what the SQL stores cost and why, sizing, figures and how to repeat them |
//! | [`testing`] | handlers in isolation, whole flows, mocks, time |
//! | [`telemetry`] | metrics, spans and their attributes |
//! | [`troubleshooting`] | from the symptom to the cause |
//! | [`architecture`] | how the code is divided, and where to begin to read it |

#[doc = include_str!("introduction.md")]
pub mod introduction {}

#[doc = include_str!("handlers.md")]
pub mod handlers {}

#[doc = include_str!("raising.md")]
pub mod raising {}

#[doc = include_str!("states.md")]
pub mod states {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("attacks.md")]
pub mod attacks {}

#[doc = include_str!("postgresql.md")]
pub mod postgresql {}

#[doc = include_str!("sqlite.md")]
pub mod sqlite {}

#[doc = include_str!("mysql.md")]
pub mod mysql {}

#[doc = include_str!("production.md")]
pub mod production {}

#[doc = include_str!("operating.md")]
pub mod operating {}

#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("testing.md")]
#[doc = ""]
// The module is there with its feature only; without it the page leads to how to switch it on.
#[cfg_attr(feature = "mocks", doc = "[`mocks`]: crate::mocks")]
#[cfg_attr(not(feature = "mocks"), doc = "[`mocks`]: crate#features")]
pub mod testing {}

#[doc = include_str!("telemetry.md")]
#[doc = include_str!("../telemetry/telemetry.md")]
pub mod telemetry {}

#[doc = include_str!("troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[cfg(test)]
mod tests;
