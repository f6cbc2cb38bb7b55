//! Which handlers want which events, on which terms: built once, and checked when it is built.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::{
    handler::{Handler, HandlerKind},
    id::HandlerHash,
    model::{EventPattern, PatternError, Priority, PriorityError, Registration},
    store::ConnectionType,
    text::Name,
};

/// The handlers of a process and what they are mapped to. Cheap to clone.
#[derive(Clone)]
pub struct ConfigMap(Arc<Inner>);

struct Inner {
    handlers: BTreeMap<Name, Arc<Handler>>,
    registrations: Vec<Registration>,
    retired: Vec<Name>,
    renamed: Vec<(Name, Name)>,
}

impl ConfigMap {
    /// Begins a map.
    pub fn builder() -> ConfigMapBuilder {
        ConfigMapBuilder {
            handlers: Vec::new(),
            retired: Vec::new(),
            renamed: Vec::new(),
        }
    }

    /// The handler with this name.
    pub(crate) fn handler(&self, name: &str) -> Option<&Arc<Handler>> {
        self.0.handlers.get(name)
    }

    /// All handlers, by name.
    pub(crate) fn handlers(&self) -> impl Iterator<Item = &Arc<Handler>> {
        self.0.handlers.values()
    }

    /// The names of all handlers, in order.
    #[must_use]
    pub fn handler_names(&self) -> Vec<Name> {
        self.0.handlers.keys().cloned().collect()
    }

    /// What is registered in the store when a scheduler starts.
    #[must_use]
    pub fn registrations(&self) -> &[Registration] {
        &self.0.registrations
    }

    /// Handlers whose registrations end when a scheduler starts.
    #[must_use]
    pub fn retired(&self) -> &[Name] {
        &self.0.retired
    }

    /// Handlers that get another name when a scheduler starts: the old one and the new one.
    #[must_use]
    pub fn renamed(&self) -> &[(Name, Name)] {
        &self.0.renamed
    }

    /// Checks that every transactional handler takes the connection that the store gives.
    ///
    /// # Errors
    /// [`ConfigError::WrongConnection`] names the first that does not.
    pub fn check_connection(&self, store: ConnectionType) -> Result<(), ConfigError> {
        for handler in self.handlers() {
            if let HandlerKind::Transactional(_, takes) = &handler.kind
                && *takes != store
            {
                return Err(ConfigError::WrongConnection {
                    handler: handler.name.clone(),
                    takes: takes.name(),
                    store: store.name(),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigMap")
            .field("registrations", &self.0.registrations)
            .field("retired", &self.0.retired)
            .field("renamed", &self.0.renamed)
            .finish()
    }
}

/// Builds a [`ConfigMap`].
#[derive(Debug)]
#[must_use = "nothing is checked until `build`"]
pub struct ConfigMapBuilder {
    handlers: Vec<Handler>,
    retired: Vec<Name>,
    renamed: Vec<(Name, Name)>,
}

impl ConfigMapBuilder {
    /// Adds a handler.
    pub fn handler(mut self, handler: Handler) -> Self {
        self.handlers.push(handler);
        self
    }

    /// Ends the registrations of a handler that this version does not have any more. Its open
    /// requests stay; cancel them if nobody has the handler.
    pub fn retire(mut self, handler: impl Into<Name>) -> Self {
        self.retired.push(handler.into());
        self
    }

    /// Says that a handler of this map was called `from` in earlier versions: its registrations
    /// and its open and dead requests go by the new name.
    pub fn rename(mut self, from: impl Into<Name>, to: impl Into<Name>) -> Self {
        self.renamed.push((from.into(), to.into()));
        self
    }

    /// Checks everything.
    ///
    /// # Errors
    /// The first mistake, with the name of the handler.
    pub fn build(self) -> Result<ConfigMap, ConfigError> {
        let mut handlers = BTreeMap::new();
        let mut registrations = Vec::new();
        for handler in self.handlers {
            check_name(&handler.name)?;
            register(&handler, &mut registrations)?;
            let name = handler.name.clone();
            if handlers.insert(name.clone(), Arc::new(handler)).is_some() {
                return Err(ConfigError::DuplicateHandler { handler: name });
            }
        }
        check_hashes(handlers.keys())?;
        for name in &self.retired {
            check_name(name)?;
            if handlers.contains_key(name) {
                return Err(ConfigError::RetiredButMapped {
                    handler: name.clone(),
                });
            }
        }
        let mut old_names = BTreeSet::new();
        for (from, to) in &self.renamed {
            check_name(from)?;
            let handler = || from.clone();
            if from == to {
                return Err(ConfigError::RenamedToItself { handler: handler() });
            }
            if handlers.contains_key(from) {
                return Err(ConfigError::RenamedButMapped { handler: handler() });
            }
            if self.retired.contains(from) {
                return Err(ConfigError::RenamedAndRetired { handler: handler() });
            }
            if !old_names.insert(from) {
                return Err(ConfigError::RenamedTwice { handler: handler() });
            }
            if !handlers.contains_key(to) {
                return Err(ConfigError::RenamedToUnknown {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
        }
        let (retired, renamed) = (self.retired, self.renamed);
        Ok(ConfigMap(Arc::new(Inner {
            handlers,
            registrations,
            retired,
            renamed,
        })))
    }
}

fn check_name(name: &Name) -> Result<(), ConfigError> {
    match name.defect() {
        Some(reason) => Err(ConfigError::BadName {
            handler: name.clone(),
            reason,
        }),
        None => Ok(()),
    }
}

/// Two handlers whose names hash alike would share the ids of their requests.
fn check_hashes<'a>(names: impl Iterator<Item = &'a Name>) -> Result<(), ConfigError> {
    match HandlerHash::clash(names.map(Name::as_str)) {
        Some((handler, other)) => Err(ConfigError::SameHash {
            handler: handler.into(),
            other: other.into(),
        }),
        None => Ok(()),
    }
}

/// Checks a handler's terms and adds its registrations.
fn register(handler: &Handler, registrations: &mut Vec<Registration>) -> Result<(), ConfigError> {
    let name = || handler.name.clone();
    let priority =
        Priority::new(handler.priority).map_err(|defect| ConfigError::PriorityOutOfRange {
            handler: name(),
            defect,
        })?;
    for (is_zero, setting, remedy) in [
        (handler.max_errors == 0, "max errors", "at least one"),
        (handler.timeout.is_zero(), "time-out", "a longer one"),
        (
            handler.concurrency == Some(0),
            "concurrency limit",
            "at least one",
        ),
    ] {
        if is_zero {
            return Err(ConfigError::Zero {
                handler: name(),
                setting,
                remedy,
            });
        }
    }
    if handler.shares_transactions && matches!(handler.kind, HandlerKind::Ordinary(_)) {
        return Err(ConfigError::NotTransactional { handler: name() });
    }
    let mut patterns = BTreeSet::new();
    for text in &handler.patterns {
        let pattern =
            EventPattern::parse(text.clone()).map_err(|defect| ConfigError::BadPattern {
                handler: name(),
                defect,
            })?;
        if handler
            .event_name
            .is_some_and(|event| pattern.as_str() != event)
        {
            let takes = handler.event_name.unwrap_or_default();
            return Err(ConfigError::WrongEvent {
                handler: name(),
                takes,
                pattern,
            });
        }
        if !patterns.insert(pattern.clone()) {
            return Err(ConfigError::DuplicatePattern {
                handler: name(),
                pattern,
            });
        }
    }
    if let (Some(event), true) = (handler.event_name, patterns.is_empty()) {
        let pattern = EventPattern::parse(event).map_err(|defect| ConfigError::BadPattern {
            handler: name(),
            defect,
        })?;
        patterns.insert(pattern);
    }
    if patterns.is_empty() {
        return Err(ConfigError::NoEvent { handler: name() });
    }
    registrations.extend(
        patterns
            .into_iter()
            .map(|pattern| Registration::new(pattern, name(), priority, handler.max_errors)),
    );
    Ok(())
}

/// A mistake in a [`ConfigMap`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name that cannot be one.
    #[error("the handler name {handler:?} {reason}; choose a name such as index_commits")]
    BadName {
        /// The name.
        handler: Name,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two handlers share a name.
    #[error("two handlers are named {handler:?}; give each a name of its own")]
    DuplicateHandler {
        /// The name.
        handler: Name,
    },
    /// Two names that hash alike, so that their requests would share ids; one pair of names in four
    /// thousand million does.
    #[error("the handler names {handler:?} and {other:?} hash alike; rename one of them")]
    SameHash {
        /// One.
        handler: Name,
        /// The other.
        other: Name,
    },
    /// A pattern that cannot be one.
    #[error("handler {handler:?} has a bad event pattern: {defect}")]
    BadPattern {
        /// The handler.
        handler: Name,
        /// What is wrong with it.
        defect: PatternError,
    },
    /// The same pattern twice.
    #[error("handler {handler:?} is mapped to {pattern} twice; remove one")]
    DuplicatePattern {
        /// The handler.
        handler: Name,
        /// The pattern.
        pattern: EventPattern,
    },
    /// A handler of a typed event is mapped to other events.
    #[error(
        "handler {handler:?} takes {takes} but is mapped to {pattern}; take a Payload, or remove the mapping"
    )]
    WrongEvent {
        /// The handler.
        handler: Name,
        /// The event that its argument stands for.
        takes: &'static str,
        /// The mapping.
        pattern: EventPattern,
    },
    /// A handler without events.
    #[error("handler {handler:?} is mapped to no event; say which with `on`")]
    NoEvent {
        /// The handler.
        handler: Name,
    },
    /// A priority that is out of range.
    #[error("handler {handler:?} has a bad priority: {defect}")]
    PriorityOutOfRange {
        /// The handler.
        handler: Name,
        /// The range.
        defect: PriorityError,
    },
    /// A limit of zero, with which the handler could never run.
    #[error("the {setting} of handler {handler:?} is zero; choose {remedy}")]
    Zero {
        /// The handler.
        handler: Name,
        /// The setting.
        setting: &'static str,
        /// What it can be.
        remedy: &'static str,
    },
    /// A handler is to share transactions, and has none.
    #[error(
        "handler {handler:?} shares transactions but is not transactional; make it with `Handler::transactional`, or leave out `shared_transactions`"
    )]
    NotTransactional {
        /// The handler.
        handler: Name,
    },
    /// A handler is retired and mapped.
    #[error("handler {handler:?} is both mapped and retired; remove one")]
    RetiredButMapped {
        /// The handler.
        handler: Name,
    },
    /// An old name that is renamed twice.
    #[error("the old name {handler:?} is renamed twice; remove one")]
    RenamedTwice {
        /// The old name.
        handler: Name,
    },
    /// An old name that is retired as well.
    #[error("the old name {handler:?} is both renamed and retired; remove one")]
    RenamedAndRetired {
        /// The old name.
        handler: Name,
    },
    /// An old name that a handler of the map still has.
    #[error("the old name {handler:?} is still mapped; remove its handler, or the rename")]
    RenamedButMapped {
        /// The old name.
        handler: Name,
    },
    /// An old name that is the new one.
    #[error(
        "handler {handler:?} is renamed to itself; say what it was called, or remove the rename"
    )]
    RenamedToItself {
        /// Both.
        handler: Name,
    },
    /// A rename to a handler that the map does not have.
    #[error("handler {from:?} is renamed to {to:?}, which is not in the map; add it")]
    RenamedToUnknown {
        /// The old name.
        from: Name,
        /// The new name.
        to: Name,
    },
    /// A transactional handler for another database.
    #[error(
        "transactional handler {handler:?} takes a {takes}, but the store's connection is a {store}; change its argument"
    )]
    WrongConnection {
        /// The handler.
        handler: Name,
        /// The connection that it takes.
        takes: &'static str,
        /// The connection that the store gives.
        store: &'static str,
    },
}

#[cfg(test)]
mod tests;
