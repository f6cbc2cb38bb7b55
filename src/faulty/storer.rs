//! The decorator of the store, its sessions and its transactions.

#![deny(clippy::missing_trait_methods)]

use std::{error::Error as StdError, sync::Arc};

use async_trait::async_trait;

use super::{Faults, Operation, repositories::Faulty};
use crate::{
    error::Result,
    signal::Signals,
    store::{
        Capabilities, Connection, ConnectionType, EventRepository, HandlerRequestRepository,
        LeaseRenewer, Listener, Look, Outlook, RegistrationRepository, Session, Storer,
        Transaction,
    },
};

/// A store whose operations fail, wait or lose their answers when a test says so.
///
/// What handlers do with the connection underneath goes past it.
#[derive(Clone, Debug)]
pub struct FaultyStorer {
    inner: Arc<dyn Storer>,
    faults: Faults,
}

impl FaultyStorer {
    /// A store that works as `inner` does until faults are injected.
    #[must_use]
    pub fn new(inner: Arc<dyn Storer>) -> Self {
        Self {
            inner,
            faults: Faults::default(),
        }
    }

    /// What controls the faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn wrap<P>(&self, inner: P) -> Faulty<P> {
        Faulty {
            inner,
            faults: self.faults.clone(),
        }
    }
}

#[async_trait]
impl Storer for FaultyStorer {
    async fn session(&self) -> Result<Box<dyn Session>> {
        let session = self.faults.call(Operation::Session, self.inner.session());
        Ok(Box::new(self.wrap(session.await?)))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let transaction = self.faults.call(Operation::Begin, self.inner.begin());
        Ok(Box::new(self.wrap(transaction.await?)))
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        let call = self.inner.lease_renewer();
        let renewer = self.faults.call(Operation::LeaseRenewer, call);
        Ok(Box::new(self.wrap(renewer.await?)))
    }

    fn signals(&self) -> Signals {
        self.inner.signals()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn connection_type(&self) -> ConnectionType {
        self.inner.connection_type()
    }

    fn is_conflict(&self, error: &(dyn StdError + 'static)) -> bool {
        self.inner.is_conflict(error)
    }

    async fn look(&self, look: &Look) -> Result<Outlook> {
        self.faults
            .call(Operation::Look, self.inner.look(look))
            .await
    }

    async fn listener(&self) -> Result<Box<dyn Listener>> {
        let listener = self.faults.call(Operation::Listener, self.inner.listener());
        Ok(Box::new(self.wrap(listener.await?)))
    }
}

#[async_trait]
impl Listener for Faulty<Box<dyn Listener>> {
    async fn listen(&mut self) -> Result<()> {
        let call = self.inner.listen();
        self.faults.call(Operation::Listen, call).await
    }
}

impl<S: Session + ?Sized> Session for Faulty<Box<S>> {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(Faulty {
            inner: self.inner.events(),
            faults: self.faults.clone(),
        })
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        Box::new(Faulty {
            inner: self.inner.handler_requests(),
            faults: self.faults.clone(),
        })
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(Faulty {
            inner: self.inner.registrations(),
            faults: self.faults.clone(),
        })
    }

    fn connection(&mut self) -> Connection<'_> {
        self.inner.connection()
    }
}

#[async_trait]
impl Transaction for Faulty<Box<dyn Transaction>> {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Faulty { inner, faults } = *self;
        faults.call(Operation::Commit, inner.commit()).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let Faulty { inner, faults } = *self;
        faults.call(Operation::Rollback, inner.rollback()).await
    }

    async fn savepoint(&mut self) -> Result<()> {
        let call = self.inner.savepoint();
        self.faults.call(Operation::Savepoint, call).await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let call = self.inner.rollback_to_savepoint();
        self.faults.call(Operation::RollbackToSavepoint, call).await
    }
}
