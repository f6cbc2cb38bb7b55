//! The durable record that a handler wants events of a name or pattern.

use chrono::{DateTime, Utc};

use super::{EventPattern, Priority};
use crate::{error::StoreError, text::Name};

/// What a [`ConfigMap`](crate::ConfigMap) maps, as the store keeps it: fan-out uses the union of
/// all active registrations, whichever process made them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Registration {
    /// Which events.
    pub pattern: EventPattern,
    /// The handler's name.
    pub handler: Name,
    /// The priority of requests made from it.
    pub priority: Priority,
    /// The max errors of requests made from it.
    pub max_errors: u32,
    /// Whether it still counts.
    pub state: RegistrationState,
    /// When a living process last said that it has the handler, by the store's clock.
    pub last_seen_at: DateTime<Utc>,
}

impl Registration {
    /// The max errors of a handler that says nothing else.
    pub(crate) const DEFAULT_MAX_ERRORS: u32 = 5;

    /// An active registration; a store sets when it was last seen.
    #[must_use]
    pub const fn new(
        pattern: EventPattern,
        handler: Name,
        priority: Priority,
        max_errors: u32,
    ) -> Self {
        Self {
            pattern,
            handler,
            priority,
            max_errors,
            state: RegistrationState::Active,
            last_seen_at: DateTime::UNIX_EPOCH,
        }
    }

    /// By what name a handler goes that has been renamed, over any number of renames; `None` when
    /// it has not. `all` are the registrations of a store.
    #[must_use]
    pub fn name_today<'a>(
        all: impl IntoIterator<Item = &'a Self> + Clone,
        handler: &Name,
    ) -> Option<Name> {
        let renamed_to = |name: &Name| {
            all.clone()
                .into_iter()
                .filter(|registration| registration.handler == *name)
                .find_map(|registration| match &registration.state {
                    RegistrationState::RenamedTo(name) => Some(name),
                    _ => None,
                })
        };
        let mut today = renamed_to(handler)?;
        // Renaming back revives the old name, so the chain has an end; the bound is for safety only.
        for _ in all.clone() {
            match renamed_to(today) {
                Some(next) => today = next,
                None => break,
            }
        }
        Some(today.clone())
    }

    /// Checks what not every database can store.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the handler and the reason.
    pub fn check_storable(&self) -> Result<(), StoreError> {
        let pattern = Name::from(self.pattern.as_str());
        for (thing, text) in [("handler", &self.handler), ("pattern", &pattern)] {
            if let Some(defect) = text.unstorable() {
                return Err(StoreError::invalid(
                    format!("the {thing} of the registration of {:?}", self.handler),
                    defect,
                    "choose a short, printable one",
                ));
            }
        }
        Ok(())
    }

    /// Checks the new name of a handler that is renamed, as a [`ConfigMap`](crate::ConfigMap) does.
    /// Old names are not checked: whatever the store has can be renamed and retired.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], with the [defect](Name::defect) of the name.
    pub fn check_new_name(name: &Name) -> Result<(), StoreError> {
        match name.defect() {
            Some(defect) => Err(StoreError::invalid(
                format!("the new handler name {name:?}"),
                defect,
                "choose a name such as index_commits",
            )),
            None => Ok(()),
        }
    }

    /// Why a handler cannot be renamed to a name that was itself given up by a rename, while some
    /// requests still go by it: they would become another handler's.
    #[must_use]
    pub fn left_behind(name: &Name, today: &Name) -> StoreError {
        StoreError::invalid(
            format!("handler {name:?}"),
            format!("was renamed to {today:?}, and some requests still go by the old name"),
            "take them along with `rename_requests`, and rename then",
        )
    }
}

/// Whether a registration still counts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RegistrationState {
    /// Fan-out uses it.
    Active,
    /// Ended by `retire`; registering the handler again makes it active.
    Retired,
    /// Ended by `rename`; registering the old name again (a process of an older version does when
    /// it restarts) changes nothing.
    RenamedTo(Name),
}
