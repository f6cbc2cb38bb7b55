//! A store that writes down what it is asked and what it answers.

#![deny(clippy::missing_trait_methods)]

use std::{error::Error as StdError, sync::Arc};

use async_trait::async_trait;
use tidings::{
    Result, Signals,
    store::{
        Capabilities, Connection, ConnectionType, EventRepository, HandlerRequestRepository,
        LeaseRenewer, Listener, Look, Outlook, RegistrationRepository, Session, Storer,
        Transaction,
    },
};

use super::{
    call::{Answer, Asked},
    log::Log,
    recorded::Recorded,
};

/// The store as one process has it.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    inner: Arc<dyn Storer>,
    log: Log,
    process: usize,
}

impl Recorder {
    pub(crate) fn new(inner: Arc<dyn Storer>, log: &Log, process: usize) -> Self {
        Self {
            inner,
            log: log.clone(),
            process,
        }
    }

    fn wrap<P>(&self, inner: P, transaction: Option<u32>) -> Recorded<P> {
        Recorded {
            inner,
            log: self.log.clone(),
            from: (self.process, transaction),
        }
    }
}

#[async_trait]
impl Storer for Recorder {
    async fn session(&self) -> Result<Box<dyn Session>> {
        let session = self.inner.session().await?;
        Ok(Box::new(self.wrap(session, None)))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let transaction = self.inner.begin().await?;
        let number = self.log.transaction();
        Ok(Box::new(self.wrap(transaction, Some(number))))
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        let renewer = self.inner.lease_renewer().await?;
        Ok(Box::new(self.wrap(renewer, None)))
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
        self.inner.look(look).await
    }

    async fn listener(&self) -> Result<Box<dyn Listener>> {
        self.inner.listener().await
    }
}

impl<S: Session + ?Sized> Session for Recorded<Box<S>> {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(Recorded {
            inner: self.inner.events(),
            log: self.log.clone(),
            from: self.from,
        })
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        Box::new(Recorded {
            inner: self.inner.handler_requests(),
            log: self.log.clone(),
            from: self.from,
        })
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(Recorded {
            inner: self.inner.registrations(),
            log: self.log.clone(),
            from: self.from,
        })
    }

    fn connection(&mut self) -> Connection<'_> {
        self.inner.connection()
    }
}

#[async_trait]
impl Transaction for Recorded<Box<dyn Transaction>> {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Recorded { inner, log, from } = *self;
        let call = inner.commit();
        log.call(from, Asked::Commit, call, |()| Answer::Done).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let Recorded { inner, log, from } = *self;
        let call = inner.rollback();
        log.call(from, Asked::Rollback, call, |()| Answer::Done)
            .await
    }

    async fn savepoint(&mut self) -> Result<()> {
        let call = self.inner.savepoint();
        let asked = Asked::Other("a savepoint");
        self.log
            .call(self.from, asked, call, |()| Answer::Done)
            .await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let call = self.inner.rollback_to_savepoint();
        let asked = Asked::Other("a rollback to a savepoint");
        self.log
            .call(self.from, asked, call, |()| Answer::Done)
            .await
    }
}
