//! Registrations: their union, their ends, and new names for handlers.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, Kit, failed, registration},
};
use crate::{
    error::StoreError,
    id::HandlerRequestId,
    model::{Outcome, RegistrationState, RequestState},
    store::{LockMode, Renamed, Settled, StorerExt},
    text::Name,
};

/// Registering inserts and updates, by pattern and handler.
pub async fn registering_inserts_and_updates(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("b.*", "h", 1, 1), ("a", "h", 2, 2), ("a", "g", 3, 3)])
        .await;
    kit.register(&[("a", "h", 4, 4), ("ä.日本", "g", 5, u32::MAX)])
        .await;
    assert_eq!(
        all(&kit).await,
        [
            ("g", "a", 3, 3, RegistrationState::Active),
            ("g", "ä.日本", 5, u32::MAX, RegistrationState::Active),
            ("h", "a", 4, 4, RegistrationState::Active),
            ("h", "b.*", 1, 1, RegistrationState::Active),
        ]
        .map(owned)
    );
    kit.register(&[]).await;
}

/// Requests of handlers whose names hash alike would share ids: the second one is refused, whoever
/// registers it, and nothing is changed.
pub async fn names_that_hash_alike_are_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "handler_33559", 50, 5)]).await;
    let mut session = kit.session().await;
    let new = [("b", "other", 50, 5), ("b", "handler_158884", 50, 5)];
    let refused = session
        .registrations()
        .register(&new.each_ref().map(registration))
        .await
        .unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("handler_33559") && text.contains("handler_158884"),
        "{text}"
    );
    assert_eq!(session.registrations().all().await.unwrap().len(), 1);
}

/// Registrations of different processes add up.
pub async fn fan_out_uses_the_union_of_all_processes(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "old", 50, 5)]).await;
    kit.register(&[("a", "new", 50, 5)]).await;
    kit.raise(&["a"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 2);
    kit.register(&[("b", "new", 50, 5)]).await;
    kit.raise(&["a", "b"]).await;
    let requests: Vec<_> = kit
        .fan_out()
        .await
        .processed
        .iter()
        .map(|event| event.requests)
        .collect();
    assert_eq!(
        requests,
        [2, 1],
        "what a process does not register again stays"
    );
}

/// A change of terms holds for requests that are made from then on.
pub async fn new_terms_hold_for_new_requests(target: &dyn Target) {
    let kit = Kit::new(target);
    let old = kit.pending("h", 1).await[0];
    kit.register(&[("for.h", "h", 7, 9)]).await;
    let event = kit.raise(&["for.h"]).await.remove(0);
    kit.fan_out().await;
    let new = kit.find(HandlerRequestId::derive(event.id, "h")).await;
    assert_eq!((new.priority.get(), new.max_errors), (7, 9));
    let old = kit.find(old).await;
    assert_eq!((old.priority.get(), old.max_errors), (50, 5));
}

/// A retired handler gets no new requests and keeps the old ones; registering revives it.
pub async fn a_retired_handler_gets_nothing_new(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("h", 1).await;
    kit.register(&[("*", "h", 50, 5), ("*", "i", 50, 5)]).await;
    let mut session = kit.session().await;
    assert_eq!(
        session.registrations().retire(&"h".into()).await.unwrap(),
        2
    );
    assert_eq!(
        session.registrations().retire(&"h".into()).await.unwrap(),
        0
    );
    assert_eq!(
        session
            .registrations()
            .retire(&"unknown".into())
            .await
            .unwrap(),
        0
    );
    assert_eq!(all(&kit).await[0].4, RegistrationState::Retired);
    kit.raise(&["for.h"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
    assert_eq!(
        kit.claim(&["h"], ALL).await.len(),
        1,
        "old requests are executed"
    );
    kit.register(&[("for.h", "h", 50, 5)]).await;
    kit.raise(&["for.h", "other"]).await;
    let requests: Vec<_> = kit
        .fan_out()
        .await
        .processed
        .iter()
        .map(|event| event.requests)
        .collect();
    assert_eq!(
        requests,
        [2, 1],
        "only what was registered again is active again"
    );
}

/// A handler that no process has had for long, and that has work, is absent.
pub async fn absent_handlers_are_found(target: &dyn Target) {
    let kit = Kit::new(target);
    for handler in ["idle", "busy", "alive", "gone", "renewed"] {
        kit.pending(handler, 2).await;
    }
    let claimed = kit.claim(&["idle"], ALL).await;
    for request in &claimed {
        kit.settle(request, Outcome::Completed).await;
    }
    let request = kit.claim_one("busy").await;
    kit.settle(&request, Outcome::Completed).await;
    let hour = Duration::from_secs(3600);
    kit.pass(hour * 2).await;
    let mut session = kit.session().await;
    session
        .registrations()
        .retire(&"gone".into())
        .await
        .unwrap();
    session
        .registrations()
        .touch(&["alive".into(), "unknown".into()])
        .await
        .unwrap();
    kit.register(&[("for.renewed", "renewed", 50, 5)]).await;
    let absent = session.registrations().absent(hour).await.unwrap();
    let [busy] = &absent[..] else {
        panic!("one handler is absent, not {absent:?}")
    };
    assert_eq!((&*busy.handler, busy.open_requests), ("busy", 1));
    let registered = session.registrations().all().await.unwrap();
    let its = registered
        .iter()
        .find(|registration| registration.handler == "busy")
        .unwrap();
    assert_eq!(busy.last_seen_at, its.last_seen_at);
    assert_eq!(session.registrations().absent(hour * 3).await.unwrap(), []);
    kit.pass(hour).await;
    let absent = session.registrations().absent(hour).await.unwrap();
    let names: Vec<_> = absent.iter().map(|absent| &*absent.handler).collect();
    assert_eq!(names, ["alive", "busy", "renewed"]);
}

/// Open and dead requests go by the new name, ended ones stay; nothing is claimed by the old one.
pub async fn a_rename_takes_open_and_dead_requests_along(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("old", 5).await;
    let claimed = kit.claim(&["old"], 4).await;
    kit.settle(&claimed[0], Outcome::Completed).await;
    kit.settle(
        &claimed[1],
        Outcome::Discarded {
            reason: "no".into(),
        },
    )
    .await;
    kit.settle(&claimed[2], failed("no")).await;
    let renamed = rename(&kit, "old", "new").await;
    assert_eq!((renamed.requests, renamed.superseded), (4, 0));
    for (index, handler) in ["old", "new", "new", "new", "new"].into_iter().enumerate() {
        let request = kit.find(ids[index]).await;
        assert_eq!(request.handler, handler);
        assert_eq!(
            request.attempt,
            u64::from(index < 4),
            "a rename is no attempt"
        );
    }
    assert_eq!(kit.claim(&["old"], ALL).await, []);
    assert_eq!(kit.claim(&["new"], ALL).await[0].id, ids[4]);
    let mut session = kit.session().await;
    assert_eq!(
        session
            .handler_requests()
            .dead_handler_names()
            .await
            .unwrap(),
        ["new"]
    );
    let again = rename(&kit, "old", "new").await;
    assert_eq!(
        (again.requests, again.superseded),
        (0, 0),
        "again changes nothing"
    );
}

/// An execution that runs under the old name settles as if nothing had happened.
pub async fn an_execution_survives_a_rename(target: &dyn Target) {
    let kit = Kit::new(target);
    let request = kit.executing("old").await;
    rename(&kit, "old", "new").await;
    let stored = kit.find(request.id).await;
    assert_eq!((&*stored.handler, stored.attempt), ("new", request.attempt));
    assert_eq!(
        kit.settle(&request, Outcome::Completed).await,
        Settled::Applied
    );
    assert_eq!(kit.state(request.id).await, RequestState::Completed);
}

/// The patterns move, unless the new name has them; the old name leads to the new one.
pub async fn a_rename_moves_patterns(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "old", 1, 1), ("b", "old", 2, 2), ("b", "new", 3, 3)])
        .await;
    rename(&kit, "old", "new").await;
    let renamed = RegistrationState::RenamedTo("new".into());
    assert_eq!(
        all(&kit).await,
        [
            ("new", "a", 1, 1, RegistrationState::Active),
            ("new", "b", 3, 3, RegistrationState::Active),
            ("old", "a", 1, 1, renamed.clone()),
            ("old", "b", 2, 2, renamed),
        ]
        .map(owned)
    );
    kit.raise(&["a"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 1);
}

/// A process of the old version that registers the old name changes nothing, and hears of it.
pub async fn registering_a_renamed_handler_changes_nothing(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "old", 1, 1)]).await;
    rename(&kit, "old", "new").await;
    let before = all(&kit).await;
    let registrations = [("a", "old", 5, 5), ("z", "old", 5, 5), ("y", "other", 5, 5)]
        .map(|terms| registration(&terms));
    let mut session = kit.session().await;
    let registered = session
        .registrations()
        .register(&registrations)
        .await
        .unwrap();
    assert_eq!(registered.renamed, [("old".into(), "new".into())]);
    let mut after = all(&kit).await;
    after.retain(|registration| registration.0 != "other");
    assert_eq!(after, before);
    kit.raise(&["z", "y"]).await;
    let requests: Vec<_> = kit
        .fan_out()
        .await
        .processed
        .iter()
        .map(|event| event.requests)
        .collect();
    assert_eq!(requests, [0, 1]);
}

/// Where the event has a request of the new name already, the old one is canceled, whether it is
/// open or dead: nothing is left of the old name that anybody could have to run.
pub async fn a_rename_cancels_what_would_be_double(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[("a", "old", 50, 5), ("a", "new", 50, 5)])
        .await;
    let events = kit.raise(&["a", "a"]).await;
    kit.fan_out().await;
    let [open, dead] = [0, 1].map(|index: usize| HandlerRequestId::derive(events[index].id, "old"));
    let claimed = kit.claim(&["old"], ALL).await;
    for request in &claimed {
        if request.id == dead {
            kit.settle(
                request,
                Outcome::Discarded {
                    reason: "no".into(),
                },
            )
            .await;
        }
    }
    let renamed = rename(&kit, "old", "new").await;
    assert_eq!((renamed.requests, renamed.superseded), (0, 2));
    for id in [open, dead] {
        let canceled = kit.find(id).await;
        assert_eq!(&*canceled.handler, "old");
        let told = &canceled.last_errors.last().unwrap().message;
        assert!(told.contains("superseded"), "{told}");
        assert_eq!(kit.state(id).await, RequestState::Canceled);
    }
    let open_request = claimed.iter().find(|request| request.id == open).unwrap();
    assert_eq!(
        kit.settle(open_request, Outcome::Completed).await,
        Settled::Fenced
    );
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 2);
}

/// Renames follow each other, and the oldest name leads to the newest.
pub async fn renames_form_chains(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("a", 1).await[0];
    rename(&kit, "a", "b").await;
    assert_eq!(rename(&kit, "b", "c").await.requests, 1);
    assert_eq!(&*kit.find(id).await.handler, "c");
    let mut session = kit.session().await;
    let registrations =
        [("for.a", "a", 5, 5), ("for.a", "b", 5, 5)].map(|terms| registration(&terms));
    let registered = session
        .registrations()
        .register(&registrations)
        .await
        .unwrap();
    assert_eq!(
        registered.renamed,
        [("a".into(), "c".into()), ("b".into(), "c".into())]
    );
    kit.raise(&["for.a"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
    assert_eq!(kit.claim(&["a", "b"], ALL).await, []);
    assert_eq!(kit.claim(&["c"], ALL).await.len(), 2);
}

/// A handler can get its old name back.
pub async fn a_rename_can_be_undone(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("a", 1).await[0];
    rename(&kit, "a", "b").await;
    assert_eq!(rename(&kit, "b", "a").await.requests, 1);
    assert_eq!(&*kit.find(id).await.handler, "a");
    kit.register(&[("for.a", "a", 50, 5)]).await;
    kit.raise(&["for.a"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
    assert_eq!(kit.claim(&["a"], ALL).await.len(), 2);
    let same = rename(&kit, "a", "a").await;
    assert_eq!((same.requests, same.registrations), (0, 1));
}

/// What is renamed in many batches is renamed in the end, of whatever state; in between both names
/// can be claimed, and one that was broken off goes on when it is made again.
pub async fn a_rename_that_was_broken_off_goes_on(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("old", 9).await;
    let claimed = kit.claim(&["old"], 4).await;
    let discarded = Outcome::Discarded {
        reason: "no".into(),
    };
    kit.settle(&claimed[0], Outcome::Completed).await;
    kit.settle(&claimed[1], discarded).await;
    kit.settle(&claimed[2], failed("no")).await;
    assert_eq!(begin_to_rename(&kit, "old", "new").await.unwrap(), 1);
    let batch = rename_requests(&kit, "old", 3).await;
    assert_eq!((batch.requests, batch.superseded, batch.more), (3, 0, true));
    assert_eq!(kit.claim(&["old", "new"], ALL).await.len(), 5);
    // Here the process dies, and another one starts.
    let rest = rename(&kit, "old", "new").await;
    assert_eq!((rest.requests, rest.superseded, rest.more), (5, 0, false));
    for (index, id) in ids.into_iter().enumerate() {
        let handler = if index == 0 { "old" } else { "new" };
        assert_eq!(kit.find(id).await.handler, handler, "{index}");
    }
    let again = rename(&kit, "old", "new").await;
    assert_eq!((again.requests, again.superseded), (0, 0));
    assert_eq!(rename_requests(&kit, "old", 3).await, Renamed::default());
}

/// A limit that is just enough, and one of nothing.
pub async fn a_batch_of_a_rename_has_a_bound(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("old", 4).await;
    begin_to_rename(&kit, "old", "new").await.unwrap();
    assert_eq!(rename_requests(&kit, "old", 0).await, Renamed::default());
    assert_eq!(rename_requests(&kit, "old", 4).await.requests, 4);
    assert_eq!(rename_requests(&kit, "old", 4).await, Renamed::default());
    assert_eq!(rename_requests(&kit, "new", 4).await, Renamed::default());
    assert_eq!(
        rename_requests(&kit, "unknown", 4).await,
        Renamed::default()
    );
}

/// What somebody has locked keeps nothing else from being renamed, and is left to a later call.
pub async fn a_rename_waits_for_no_lock(target: &dyn Target) {
    let kit = Kit::new(target);
    if !kit.concurrent_writers() {
        // Who would rename waits until the lock is gone.
        return;
    }
    let ids = kit.pending("old", 5).await;
    let event = kit.find(ids[4]).await.event_id;
    begin_to_rename(&kit, "old", "new").await.unwrap();
    let mut tx = kit.locking(ids[0]).await;
    let locked = tx.events().find_for_update(event, LockMode::Wait).await;
    assert!(locked.unwrap().is_some());
    let renamed = rename_requests(&kit, "old", ALL).await;
    assert_eq!(
        (renamed.requests, renamed.skipped, renamed.more),
        (3, 2, false)
    );
    let names = async || {
        let mut names = Vec::new();
        for id in &ids {
            names.push(kit.find(*id).await.handler.to_string());
        }
        names
    };
    assert_eq!(names().await, ["old", "new", "new", "new", "old"]);
    // All of them are locked, so another call does no more.
    let renamed = rename_requests(&kit, "old", 2).await;
    assert_eq!(
        (renamed.requests, renamed.skipped, renamed.more),
        (0, 2, false)
    );
    tx.rollback().await.unwrap();
    let renamed = rename_requests(&kit, "old", ALL).await;
    assert_eq!((renamed.requests, renamed.skipped), (2, 0));
    assert_eq!(names().await, ["new"; 5]);
}

/// A request that was executing when its handler was renamed, and whose process is lost before the
/// rename came to it, is not left behind; nor is one that is run again under its old name later.
pub async fn a_rename_strands_nothing(target: &dyn Target) {
    let kit = Kit::new(target);
    let lost = kit.executing("old").await;
    let done = kit.pending("old", 1).await[0];
    let completed = kit.claim_one("old").await;
    assert_eq!(completed.id, done);
    kit.settle(&completed, Outcome::Completed).await;
    begin_to_rename(&kit, "old", "new").await.unwrap();
    assert_eq!(kit.lose_all().await.len(), 1);
    assert_eq!(rename(&kit, "old", "new").await.requests, 1);
    assert_eq!(kit.claim_one("new").await.id, lost.id);
    let mut session = kit.session().await;
    session.handler_requests().reexecute(done).await.unwrap();
    assert_eq!(rename(&kit, "old", "new").await.requests, 1);
    assert_eq!(kit.claim_one("new").await.id, done);
}

/// Requests go by the name of today, whoever renames them to what and when.
pub async fn requests_follow_over_several_renames(target: &dyn Target) {
    let kit = Kit::new(target);
    let ids = kit.pending("a", 3).await;
    begin_to_rename(&kit, "a", "b").await.unwrap();
    assert_eq!(rename_requests(&kit, "a", 1).await.requests, 1);
    begin_to_rename(&kit, "b", "c").await.unwrap();
    assert_eq!(rename_requests(&kit, "a", ALL).await.requests, 2);
    assert_eq!(rename_requests(&kit, "b", ALL).await.requests, 1);
    for id in ids {
        assert_eq!(&*kit.find(id).await.handler, "c");
    }
}

/// A name that was given up is not given to another handler while requests go by it: they would be
/// that one's. Giving it back to its owner is another matter.
pub async fn requests_are_not_given_to_another_handler(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("old", 1).await[0];
    kit.register(&[("other", "other", 50, 5)]).await;
    begin_to_rename(&kit, "old", "new").await.unwrap();
    let before = all(&kit).await;
    let refused = begin_to_rename(&kit, "other", "old").await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { .. }), "{refused:?}");
    let told = refused.to_string();
    assert!(
        told.contains("\"old\"") && told.contains("\"new\""),
        "{told}"
    );
    assert_eq!(all(&kit).await, before);
    // What does it all takes them along first.
    rename(&kit, "other", "old").await;
    assert_eq!(&*kit.find(id).await.handler, "new");

    let id = kit.pending("x", 1).await[0];
    begin_to_rename(&kit, "x", "y").await.unwrap();
    assert_eq!(begin_to_rename(&kit, "y", "x").await.unwrap(), 1);
    assert_eq!(kit.claim_one("x").await.id, id);
}

/// Several processes that start at once share the work, and none takes the other's for a collision.
pub async fn several_can_rename_at_once(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.pending("old", 60).await;
    begin_to_rename(&kit, "old", "new").await.unwrap();
    let renamers: Vec<_> = (0..4)
        .map(|_| {
            let store = kit.target.store();
            tokio::spawn(async move {
                let mut done = Renamed::default();
                loop {
                    let batch = async {
                        let mut session = store.session().await?;
                        let mut registrations = session.registrations();
                        registrations.rename_requests(&"old".into(), 7).await
                    };
                    match batch.await {
                        Ok(batch) => {
                            done.requests += batch.requests;
                            done.superseded += batch.superseded;
                            if !batch.more {
                                return done;
                            }
                        }
                        Err(error) if error.is_transient() => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    let mut done = (0, 0);
    for renamer in renamers {
        let its = renamer.await.unwrap();
        done = (done.0 + its.requests, done.1 + its.superseded);
    }
    assert_eq!(done, (60, 0));
    assert_eq!(kit.claim(&["new"], ALL).await.len(), 60);
}

/// A rename of what does not exist changes nothing.
pub async fn an_unknown_handler_is_renamed_to_no_effect(target: &dyn Target) {
    let kit = Kit::new(target);
    assert_eq!(rename(&kit, "unknown", "new").await, Renamed::default());
    assert_eq!(all(&kit).await, []);
}

/// Who renames can tell a typo from a rename that was made before.
pub async fn a_rename_counts_what_goes_by_the_new_name(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("a", "old", 50, 5),
        ("b", "old", 50, 5),
        ("b", "there", 5, 3),
        ("c", "there", 5, 3),
    ])
    .await;
    let count = async |from, to| rename(&kit, from, to).await.registrations;
    assert_eq!(count("odl", "there").await, 0, "a typo");
    assert_eq!(count("old", "there").await, 2);
    assert_eq!(count("old", "there").await, 2, "again");
    assert_eq!(count("there", "newest").await, 3);
    assert_eq!(count("old", "newest").await, 2, "by way of the other");
    assert_eq!(count("old", "there").await, 0, "it goes by another name");
}

/// A handler that gets the name of another active one is one with it: patterns of both, and the
/// terms of the one whose name it is where both have a pattern.
pub async fn a_rename_onto_an_active_handler_merges_both(target: &dyn Target) {
    let kit = Kit::new(target);
    kit.register(&[
        ("a", "old", 50, 5),
        ("b", "old", 50, 5),
        ("b", "there", 5, 3),
        ("c", "there", 5, 3),
    ])
    .await;
    rename(&kit, "old", "there").await;
    let mut there = all(&kit).await;
    there.retain(|row| row.0 == "there");
    let expected = [
        ("there", "a", 50, 5, RegistrationState::Active),
        ("there", "b", 5, 3, RegistrationState::Active),
        ("there", "c", 5, 3, RegistrationState::Active),
    ];
    assert_eq!(there, expected.map(owned));
    kit.raise(&["b"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
}

/// What cannot be a handler's name does not become one by a rename.
pub async fn a_rename_to_a_bad_name_is_refused(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("old", 1).await[0];
    let before = all(&kit).await;
    let long = "x".repeat(Name::MAX_LEN + 1);
    for bad in ["", " bad\n", " bad", "a\u{7}b", "index*", &long] {
        let refused = begin_to_rename(&kit, "old", bad).await.unwrap_err();
        let StoreError::Invalid { reason, .. } = &refused else {
            panic!("{bad:?}: {refused:?}");
        };
        assert_eq!(Some(&**reason), Name::from(bad).defect());
        let store = kit.target.store();
        let refused = store.rename(&"old".into(), &bad.into()).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { .. }), "{refused:?}");
    }
    assert_eq!(all(&kit).await, before);
    // The longest that is none of them.
    let longest = "x".repeat(Name::MAX_LEN);
    assert_eq!(rename(&kit, "old", &longest).await.requests, 1);
    assert_eq!(kit.find(id).await.handler, *longest);
}

/// Registrations are part of a transaction.
pub async fn registrations_are_rolled_back(target: &dyn Target) {
    let kit = Kit::new(target);
    let id = kit.pending("h", 1).await[0];
    let before = all(&kit).await;
    let mut tx = kit.begin().await;
    let mut registrations = tx.registrations();
    registrations
        .register(&[registration(&("*", "i", 5, 5))])
        .await
        .unwrap();
    registrations
        .rename(&"h".into(), &"j".into())
        .await
        .unwrap();
    let renamed = registrations.rename_requests(&"h".into(), ALL).await;
    assert_eq!(renamed.unwrap().requests, 1);
    registrations.retire(&"i".into()).await.unwrap();
    assert_eq!(registrations.all().await.unwrap().len(), 3);
    drop(registrations);
    tx.rollback().await.unwrap();
    assert_eq!(all(&kit).await, before);
    assert_eq!(&*kit.find(id).await.handler, "h");
    kit.raise(&["for.h"]).await;
    assert_eq!(kit.fan_out().await.processed[0].requests, 1);
}

type Row = (Name, String, i16, u32, RegistrationState);

fn owned(
    (handler, pattern, priority, max_errors, state): (&str, &str, i16, u32, RegistrationState),
) -> Row {
    (
        handler.into(),
        pattern.to_owned(),
        priority,
        max_errors,
        state,
    )
}

async fn all(kit: &Kit<'_>) -> Vec<Row> {
    let mut session = kit.session().await;
    let all = session.registrations().all().await.unwrap();
    all.into_iter()
        .map(|row| {
            (
                row.handler,
                row.pattern.to_string(),
                row.priority.get(),
                row.max_errors,
                row.state,
            )
        })
        .collect()
}

async fn rename(kit: &Kit<'_>, from: &str, to: &str) -> Renamed {
    let store = kit.target.store();
    store.rename(&from.into(), &to.into()).await.unwrap()
}

/// Renames the registrations alone.
async fn begin_to_rename(kit: &Kit<'_>, from: &str, to: &str) -> Result<u64, StoreError> {
    let mut session = kit.session().await;
    let mut registrations = session.registrations();
    registrations.rename(&from.into(), &to.into()).await
}

async fn rename_requests(kit: &Kit<'_>, from: &str, limit: usize) -> Renamed {
    let mut session = kit.session().await;
    let mut registrations = session.registrations();
    let renamed = registrations.rename_requests(&from.into(), limit).await;
    renamed.unwrap()
}
