//! The handlers of the demo and what they are mapped to: one map for every way to run it, so that
//! any two demos on one store can do each other's work.

mod github;
mod shop;

use tidings::{ConfigError, ConfigMap};

use crate::{happenings::Happenings, tallies::Tallies};

/// Maps all handlers.
pub(crate) fn config_map(
    tallies: &Tallies,
    happenings: &Happenings,
) -> Result<ConfigMap, ConfigError> {
    github::handlers(tallies)
        .into_iter()
        .chain(shop::handlers(happenings))
        .fold(ConfigMap::builder(), tidings::ConfigMapBuilder::handler)
        .build()
}
