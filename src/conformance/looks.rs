//! Looks: what there is to do is told, and nothing is done. A store that cannot tell says so.

use std::time::Duration;

use super::{
    Target,
    kit::{ALL, BACKOFF, Kit, LEASE, failed},
};
use crate::{
    model::RequestState,
    store::{EventClaim, EventFailure, Look, Outlook},
    text::Name,
};

/// A store with nothing to do says so, unless it never can tell.
pub async fn an_idle_store_is_told(target: &dyn Target) {
    let kit = Kit::new(target);
    if !tells(&kit).await {
        return;
    }
    kit.pending("other", 1).await;
    let done = kit.executing("h").await;
    kit.settle(&done, crate::model::Outcome::Completed).await;
    assert_eq!(look(&kit, &["h"]).await, Outlook::default());
}

/// Due events are told; others by when they are due.
pub async fn events_that_wait_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let tells = tells(&kit).await;
    kit.raise(&["a"]).await;
    assert!(look(&kit, &[]).await.event_waits);
    if !tells {
        return;
    }
    let mut session = kit.session().await;
    let claim = EventClaim::new(kit.owner, LEASE, ALL);
    let claimed = session.events().claim(&claim).await.unwrap().remove(0);
    assert!(!look(&kit, &[]).await.event_waits, "it is claimed");
    let failure = EventFailure::new(claimed.event.id, claimed.attempt, "no", BACKOFF);
    session.events().fail(&[failure]).await.unwrap();
    let outlook = look(&kit, &[]).await;
    assert!(!outlook.event_waits, "it backs off");
    assert_minutes(outlook.next_event, 60.0);
    kit.pass(BACKOFF).await;
    let outlook = look(&kit, &[]).await;
    assert!(outlook.event_waits && outlook.next_event.is_none());
    kit.fan_out().await;
    assert!(!look(&kit, &[]).await.event_waits, "it is processed");
}

/// Due requests of the asked handlers are told; others by when they are due.
pub async fn requests_that_wait_are_told(target: &dyn Target) {
    let kit = Kit::new(target);
    let tells = tells(&kit).await;
    kit.pending("h", 1).await;
    assert!(look(&kit, &["i", "h"]).await.request_waits);
    if !tells {
        return;
    }
    assert!(
        !look(&kit, &["i"]).await.request_waits,
        "it is not asked for"
    );
    let request = kit.claim_one("h").await;
    assert!(!look(&kit, &["h"]).await.request_waits, "it executes");
    kit.settle(&request, failed("no")).await;
    let outlook = look(&kit, &["h"]).await;
    assert!(!outlook.request_waits, "it backs off");
    assert_minutes(outlook.next_request, 60.0);
    assert_eq!(look(&kit, &["i"]).await.next_request, None);
    kit.pass(BACKOFF).await;
    let outlook = look(&kit, &["h"]).await;
    assert!(outlook.request_waits && outlook.next_request.is_none());
    assert_eq!(
        kit.state(request.id).await,
        RequestState::Pending,
        "a look takes nothing"
    );
}

/// Requests under suspicion are told apart from others.
pub async fn suspects_that_wait_are_told_apart(target: &dyn Target) {
    let kit = Kit::new(target);
    let tells = tells(&kit).await;
    kit.suspect("h").await;
    let outlook = look(&kit, &["h"]).await;
    assert!(outlook.suspect_waits);
    if tells {
        assert!(!outlook.request_waits);
        assert!(!look(&kit, &["i"]).await.suspect_waits);
    }
}

/// If asked, a look tells when the earliest lease runs out.
pub async fn leases_are_told_if_asked(target: &dyn Target) {
    let kit = Kit::new(target);
    let tells = tells(&kit).await;
    kit.executing("h").await;
    if tells {
        assert_minutes(look(&kit, &[]).await.next_expiry, 10.0);
        let unasked = kit.store.look(&Look::default()).await.unwrap();
        assert_eq!(unasked, Outlook::default());
    }
    kit.pass(LEASE * 2).await;
    assert_eq!(look(&kit, &[]).await.next_expiry, Some(Duration::ZERO));
    kit.rescue().await;
    if tells {
        assert_eq!(look(&kit, &[]).await.next_expiry, None);
    }
}

/// Whether the store, which is empty, can tell.
async fn tells(kit: &Kit<'_>) -> bool {
    let outlook = look(kit, &["h"]).await;
    if outlook != Outlook::unknown() {
        assert_eq!(outlook, Outlook::default(), "there is nothing");
    }
    outlook != Outlook::unknown()
}

async fn look(kit: &Kit<'_>, handlers: &[&str]) -> Outlook {
    let mut look = Look::new(handlers.iter().copied().map(Name::from).collect());
    look.leases = true;
    kit.store.look(&look).await.unwrap()
}

/// Checks that a wait is so many minutes, less what a slow machine takes.
fn assert_minutes(wait: Option<Duration>, minutes: f64) {
    let told = wait.unwrap().as_secs_f64() / 60.0;
    assert!(told > minutes - 1.0 && told <= minutes, "{told}");
}
