//! The store as a process sees it: every call goes through [`Caller`], and what takes effect is entered
//! in the ledger.

use std::{error::Error as StdError, time::Duration};

use async_trait::async_trait;
use tidings::{
    Result, Signals,
    store::{
        Capabilities, Connection, ConnectionType, EventRepository, HandlerRequestRepository,
        LeaseRenewer, Look, Outlook, RegistrationRepository, Renewal, Renewed, Session, Storer,
        Transaction, WakeUps,
    },
};

use crate::{
    calls::Caller,
    history::{Effect, What},
    repositories::{Events, Registrations, Requests},
    state::later,
    transaction::{Locks, Pending, TxEvents, TxRequests},
};

#[derive(Debug)]
pub(crate) struct SimulatedStorer {
    pub(crate) caller: Caller,
    /// Its own, unless it hears of all commits.
    pub(crate) signals: Signals,
    pub(crate) hears_all: bool,
    pub(crate) concurrent_writers: bool,
}

#[async_trait]
impl Storer for SimulatedStorer {
    async fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(SimulatedSession {
            caller: self.caller.clone(),
            inner: self.caller.world.store.session().await?,
        }))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let caller = self.caller.clone();
        let begin = caller.world.store.begin();
        let inner = self.caller.call_bound("begin", begin).await?;
        Ok(Box::new(SimulatedTransaction {
            caller,
            inner: Some(inner),
            pending: Vec::new(),
            kept: 0,
            locks: Locks::new(&self.caller.world),
        }))
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        Ok(Box::new(Renewer(self.caller.clone())))
    }

    fn signals(&self) -> Signals {
        self.signals.clone()
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.caller.world.store.capabilities();
        capabilities.wake_ups = if self.hears_all {
            WakeUps::Complete
        } else {
            WakeUps::InProcess
        };
        capabilities.concurrent_writers = self.concurrent_writers;
        capabilities
    }

    fn connection_type(&self) -> ConnectionType {
        self.caller.world.store.connection_type()
    }

    fn is_conflict(&self, error: &(dyn StdError + 'static)) -> bool {
        self.caller.world.store.is_conflict(error)
    }

    async fn look(&self, look: &Look) -> Result<Outlook> {
        let (look, caller) = (look.clone(), self.caller.clone());
        self.caller
            .call("look", move || {
                Box::pin(async move { caller.world.store.look(&look).await })
            })
            .await
    }
}

struct SimulatedSession {
    caller: Caller,
    /// Only for what wants its connection.
    inner: Box<dyn Session>,
}

impl Session for SimulatedSession {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(Events(&self.caller))
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        Box::new(Requests(&self.caller))
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(Registrations(&self.caller))
    }

    fn connection(&mut self) -> Connection<'_> {
        self.inner.connection()
    }
}

struct SimulatedTransaction {
    caller: Caller,
    /// None once it has ended.
    inner: Option<Box<dyn Transaction>>,
    /// What takes effect with the commit.
    pending: Vec<Pending>,
    /// So much of it was there at the savepoint.
    kept: usize,
    locks: Locks,
}

impl SimulatedTransaction {
    fn inner(&mut self) -> &mut dyn Transaction {
        &mut **self.inner.as_mut().expect("a transaction that goes on")
    }
}

impl Session for SimulatedTransaction {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        let caller = self.caller.clone();
        let inner = self.inner.as_mut().expect("it goes on").events();
        Box::new(TxEvents {
            caller,
            inner,
            pending: &mut self.pending,
        })
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        let caller = self.caller.clone();
        let inner = self.inner.as_mut().expect("it goes on").handler_requests();
        Box::new(TxRequests {
            caller,
            inner,
            pending: &mut self.pending,
            locks: &mut self.locks,
        })
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(Registrations(&self.caller))
    }

    fn connection(&mut self) -> Connection<'_> {
        self.inner().connection()
    }
}

#[async_trait]
impl Transaction for SimulatedTransaction {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        let inner = self.inner.take().expect("it goes on");
        let pending = std::mem::take(&mut self.pending);
        let caller = self.caller.clone();
        let locks = std::mem::replace(&mut self.locks, Locks::new(&caller.world));
        // It is sent as a whole: whoever gives it up does not know what becomes of it.
        self.caller
            .call("commit", move || {
                Box::pin(async move {
                    let _locks = locks;
                    inner.commit().await?;
                    caller.world.with(|state| {
                        state.log(Some(caller.process), What::Took(Effect::Committed));
                        for pending in pending {
                            pending.enter(state, caller.process);
                        }
                    });
                    caller.world.wake(caller.process, true);
                    Ok(())
                })
            })
            .await
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        let inner = self.inner.take().expect("it goes on");
        self.caller.call_bound("rollback", inner.rollback()).await
    }

    async fn savepoint(&mut self) -> Result<()> {
        let caller = self.caller.clone();
        let savepoint = self.inner().savepoint();
        caller.call_bound("savepoint", savepoint).await?;
        self.kept = self.pending.len();
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let caller = self.caller.clone();
        let call = self.inner().rollback_to_savepoint();
        caller.call_bound("rollback to savepoint", call).await?;
        self.pending.truncate(self.kept);
        Ok(())
    }
}

struct Renewer(Caller);

#[async_trait]
impl LeaseRenewer for Renewer {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        let sent = self.0.world.lock().now;
        let (caller, asked) = (self.0.clone(), renewal.clone());
        let renewed = self
            .0
            .call("renew", move || {
                Box::pin(async move {
                    let renewed = caller.world.server().renew(&asked).await?;
                    let process = caller.process;
                    caller
                        .world
                        .with(|state| state.renewed(process, &asked, &renewed));
                    Ok(renewed)
                })
            })
            .await?;
        let mut state = self.0.world.lock();
        for claim in &renewal.requests {
            if !renewed.lost.contains(claim) && !renewed.skipped.contains(claim) {
                state.leased_until(self.0.process, *claim, later(sent, renewal.lease));
            }
        }
        drop(state);
        Ok(renewed)
    }
}

impl crate::state::State {
    /// A process knows that it has a lease until then.
    pub(crate) fn leased_until(
        &mut self,
        process: usize,
        claim: crate::history::Claimed,
        until: chrono::DateTime<chrono::Utc>,
    ) {
        self.valid_until.insert((process, claim), until);
    }
}

/// A lease that was answered counts from when it was asked for.
pub(crate) fn note_claims(
    caller: &Caller,
    sent: chrono::DateTime<chrono::Utc>,
    lease: Duration,
    requests: &[tidings::store::ClaimedRequest],
) {
    let mut state = caller.world.lock();
    for request in requests {
        let claim = (request.id, request.attempt);
        state.leased_until(caller.process, claim, later(sent, lease));
    }
}
