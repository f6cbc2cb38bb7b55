//! Sessions, transactions and what renews leases.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    connection::SqlConnection, event_repository::SqlEvents,
    handler_request_repository::SqlRequests, registration_repository::SqlRegistrations,
    shared::Shared,
};
use crate::{
    error::Result,
    store::{
        Connection, EventRepository, HandlerRequestRepository, LeaseRenewer,
        RegistrationRepository, Renewal, Renewed, Session, Transaction,
    },
};

/// A session, or a transaction that its owner ends.
pub(super) struct SqlSession(pub(super) SqlConnection);

impl Session for SqlSession {
    fn events(&mut self) -> Box<dyn EventRepository + '_> {
        Box::new(SqlEvents(&mut self.0))
    }

    fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
        Box::new(SqlRequests(&mut self.0))
    }

    fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
        Box::new(SqlRegistrations(&mut self.0))
    }

    fn connection(&mut self) -> Connection<'_> {
        self.0.lend()
    }
}

#[async_trait]
impl Transaction for SqlSession {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.0.end(true).await
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        self.0.end(false).await
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.0.savepoint().await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.0.rollback_to_savepoint().await
    }
}

/// Renews leases on a connection of its own, which is opened again after an error.
pub(super) struct SqlLeaseRenewer {
    shared: Arc<Shared>,
    connection: Option<SqlConnection>,
}

impl SqlLeaseRenewer {
    pub(super) async fn connect(shared: &Arc<Shared>) -> Result<Self> {
        Ok(Self {
            shared: Arc::clone(shared),
            connection: Some(shared.connect().await?),
        })
    }
}

#[async_trait]
impl LeaseRenewer for SqlLeaseRenewer {
    async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed> {
        // Taken out, so that a connection whose call was broken off is closed.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shared.connect().await?,
        };
        let needs = self.shared.dialect.renew_needs();
        let mut link = connection.open("renew leases", needs).await?;
        let answer = link.shared.dialect.renew(&mut link, renewal).await;
        let answer = link.close(answer).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}
