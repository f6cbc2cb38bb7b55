//! Metrics and spans through the OpenTelemetry API. The application brings the SDK; without one,
//! or without the feature `telemetry`, everything here does next to nothing.
//!
//! Both forms of this module have the same names and signatures, so callers carry no `cfg`. No
//! OpenTelemetry type leaves it except in [`TelemetryBuilder`].

mod gauges;

#[cfg(feature = "telemetry")]
mod attributes;
#[cfg(feature = "telemetry")]
mod execution_span;
#[cfg(feature = "telemetry")]
mod metrics;
#[cfg(feature = "telemetry")]
mod observed;
#[cfg(feature = "telemetry")]
pub(crate) mod propagation;
#[cfg(feature = "telemetry")]
mod round;
#[cfg(feature = "telemetry")]
mod spans;
#[cfg(feature = "telemetry")]
#[expect(
    clippy::module_inception,
    reason = "the file holds the type that the module is about"
)]
mod telemetry;

#[cfg(not(feature = "telemetry"))]
mod off;

pub(crate) use gauges::{Gauges, Reading};

#[cfg(feature = "telemetry")]
pub use telemetry::{Telemetry, TelemetryBuilder};
#[cfg(feature = "telemetry")]
pub(crate) use {
    execution_span::ExecutionSpan,
    round::{Round, RoundLink},
};

#[cfg(not(feature = "telemetry"))]
pub(crate) use off::{ExecutionSpan, Round, RoundLink, propagation};
#[cfg(not(feature = "telemetry"))]
pub use off::{Telemetry, TelemetryBuilder};

#[cfg(test)]
#[cfg(feature = "telemetry")]
mod tests;
