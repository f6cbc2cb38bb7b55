//! Every mistake that a `ConfigMap` refuses, and what its message says.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;
use crate::{
    error::Chain,
    handler::{Context, HandlerResult},
    model::{DomainEvent, Entity, Event, Payload},
};

#[derive(Serialize, Deserialize)]
struct OrderPlaced {}

impl DomainEvent for OrderPlaced {
    const NAME: &'static str = "order.placed";

    fn entity(&self) -> Option<Entity> {
        None
    }
}

async fn any(_: Arc<Event>, _: Context) -> HandlerResult {
    Ok(())
}

async fn payload(_: Payload<Vec<String>>, _: Context) -> HandlerResult {
    Ok(())
}

async fn typed(_: OrderPlaced, _: Context) -> HandlerResult {
    Ok(())
}

async fn counting(_: OrderPlaced, _: Context, count: &mut u64) -> HandlerResult {
    *count += 1;
    Ok(())
}

/// A good handler.
fn handler(name: &str) -> Handler {
    Handler::new(name, any).on("order.placed")
}

fn build(handlers: impl IntoIterator<Item = Handler>) -> Result<ConfigMap, ConfigError> {
    let builder = handlers
        .into_iter()
        .fold(ConfigMap::builder(), ConfigMapBuilder::handler);
    builder.build()
}

fn with(
    change: impl FnOnce(ConfigMapBuilder) -> ConfigMapBuilder,
) -> Result<ConfigMap, ConfigError> {
    change(ConfigMap::builder().handler(handler("index"))).build()
}

/// Names the variants. A new one does not compile until it is in the list, and the table's test
/// does not pass until it is in the table.
macro_rules! variants {
    ($($variant:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($variant)),*];

        const fn variant(error: &ConfigError) -> &'static str {
            match error {
                $(ConfigError::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

variants! {
    BadName DuplicateHandler SameHash BadPattern DuplicatePattern WrongEvent NoEvent PriorityOutOfRange Zero
    RetiredButMapped RenamedTwice RenamedAndRetired RenamedButMapped RenamedToItself RenamedToUnknown WrongConnection
    NotTransactional
}

#[test]
fn every_mistake_is_refused_with_its_handler_and_the_remedy() {
    let long = "x".repeat(256);
    let table: Vec<(Result<ConfigMap, ConfigError>, String)> = vec![
        (
            build([handler("")]),
            r#"the handler name "" is empty; choose a name such as index_commits"#.into(),
        ),
        (
            build([handler(&long)]),
            format!("the handler name {long:?} is longer than 255 bytes; choose a name such as index_commits"),
        ),
        (
            build([handler("index*")]),
            r#"the handler name "index*" contains a *, which only patterns may; choose a name such as index_commits"#
                .into(),
        ),
        (
            with(|map| map.retire(" fax")),
            r#"the handler name " fax" begins or ends with white space; choose a name such as index_commits"#.into(),
        ),
        (
            with(|map| map.rename("a\0b", "index")),
            r#"the handler name "a\0b" contains a control character; choose a name such as index_commits"#.into(),
        ),
        (
            build([handler("index"), handler("notify"), handler("index")]),
            r#"two handlers are named "index"; give each a name of its own"#.into(),
        ),
        (
            build([handler("handler_33559"), handler("handler_158884")]),
            r#"the handler names "handler_33559" and "handler_158884" hash alike; rename one of them"#.into(),
        ),
        (
            build([handler("index").on("com.*.opened")]),
            "handler \"index\" has a bad event pattern: the event pattern \"com.*.opened\" has a * elsewhere than \
             alone or after the last dot; use a name, a prefix such as com.github.issues.*, or *"
                .into(),
        ),
        (
            build([handler("index").on("order.placed")]),
            r#"handler "index" is mapped to order.placed twice; remove one"#.into(),
        ),
        (
            build([Handler::new("index", typed).on("order.placed").on("order.*")]),
            r#"handler "index" takes order.placed but is mapped to order.*; take a Payload, or remove the mapping"#
                .into(),
        ),
        (
            build([Handler::new("index", payload)]),
            r#"handler "index" is mapped to no event; say which with `on`"#.into(),
        ),
        (
            build([handler("index").priority(101)]),
            "handler \"index\" has a bad priority: priority 101 is out of range; choose one from 0 (first) to 100 \
             (last)"
                .into(),
        ),
        (
            build([handler("index").priority(-1)]),
            "handler \"index\" has a bad priority: priority -1 is out of range; choose one from 0 (first) to 100 \
             (last)"
                .into(),
        ),
        (
            build([handler("index").max_errors(0)]),
            r#"the max errors of handler "index" is zero; choose at least one"#.into(),
        ),
        (
            build([handler("index").timeout(Duration::ZERO)]),
            r#"the time-out of handler "index" is zero; choose a longer one"#.into(),
        ),
        (
            build([handler("index").concurrency(0)]),
            r#"the concurrency limit of handler "index" is zero; choose at least one"#.into(),
        ),
        (
            build([handler("index").shared_transactions()]),
            "handler \"index\" shares transactions but is not transactional; make it with \
             `Handler::transactional`, or leave out `shared_transactions`"
                .into(),
        ),
        (
            with(|map| map.retire("index")),
            r#"handler "index" is both mapped and retired; remove one"#.into(),
        ),
        (
            with(|map| map.rename("old", "index").rename("old", "index")),
            r#"the old name "old" is renamed twice; remove one"#.into(),
        ),
        (
            with(|map| map.rename("old", "index").retire("old")),
            r#"the old name "old" is both renamed and retired; remove one"#.into(),
        ),
        (
            with(|map| map.handler(handler("old")).rename("old", "index")),
            r#"the old name "old" is still mapped; remove its handler, or the rename"#.into(),
        ),
        (
            with(|map| map.rename("index", "index")),
            r#"handler "index" is renamed to itself; say what it was called, or remove the rename"#.into(),
        ),
        (
            with(|map| map.rename("old", "indx")),
            r#"handler "old" is renamed to "indx", which is not in the map; add it"#.into(),
        ),
        (
            build([handler("index"), Handler::transactional("count", counting)]).and_then(|map| {
                map.check_connection(ConnectionType::of::<String>())?;
                Ok(map)
            }),
            "transactional handler \"count\" takes a u64, but the store's connection is a alloc::string::String; \
             change its argument"
                .into(),
        ),
    ];
    let mut variants = BTreeSet::new();
    for (result, message) in table {
        let error = result.expect_err(&message);
        assert_eq!(Chain(&error).to_string(), message);
        // Most people print no chain.
        assert_eq!(error.to_string(), message);
        variants.insert(variant(&error));
    }
    assert_eq!(
        variants,
        VARIANTS.iter().copied().collect(),
        "not all are tried"
    );
}

#[test]
fn registrations_say_what_was_mapped() {
    let map = build([
        handler("index").on("issue.*").priority(10).max_errors(3),
        Handler::new("mail", typed),
    ])
    .unwrap();
    let registered: Vec<_> = map
        .registrations()
        .iter()
        .map(|registration| {
            let Registration {
                pattern,
                handler,
                priority,
                max_errors,
                ..
            } = registration;
            (
                handler.as_str(),
                pattern.as_str(),
                priority.get(),
                *max_errors,
            )
        })
        .collect();
    let expected = [
        ("index", "issue.*", 10, 3),
        ("index", "order.placed", 10, 3),
        ("mail", "order.placed", 50, Handler::DEFAULT_MAX_ERRORS),
    ];
    assert_eq!(registered, expected);
}

#[test]
fn a_typed_handler_may_name_its_own_event() {
    let map = build([Handler::new("mail", typed).on("order.placed")]).unwrap();
    assert_eq!(map.registrations().len(), 1);
}

#[test]
fn the_limits_themselves_are_accepted() {
    let map = build([
        handler(&"x".repeat(255)),
        handler("first")
            .priority(0)
            .max_errors(1)
            .concurrency(1)
            .timeout(Duration::from_nanos(1)),
        handler("last")
            .priority(100)
            .max_errors(u32::MAX)
            .timeout(Duration::MAX),
    ]);
    assert_eq!(map.unwrap().handler_names().len(), 3);
}

#[test]
fn a_map_of_nothing_is_accepted() {
    let map = ConfigMap::builder().retire("fax").build().unwrap();
    assert_eq!(map.retired(), ["fax"]);
    assert!(
        map.registrations().is_empty()
            && map.handler_names().is_empty()
            && map.renamed().is_empty()
    );
}

#[test]
fn two_old_names_may_become_one() {
    let map = with(|map| map.rename("a", "index").rename("b", "index")).unwrap();
    assert_eq!(map.renamed().len(), 2);
}

#[test]
fn the_right_connection_is_accepted() {
    let map = build([handler("index"), Handler::transactional("count", counting)]).unwrap();
    assert_eq!(map.check_connection(ConnectionType::of::<u64>()), Ok(()));
}
