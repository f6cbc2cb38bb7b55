//! Sessions and transactions.

use async_trait::async_trait;

use super::{
    event_repository::InstrumentedEventRepository,
    handler_request_repository::InstrumentedHandlerRequestRepository,
    registration_repository::InstrumentedRegistrationRepository,
};
use crate::{
    error::Result,
    store::{
        Connection, EventRepository, HandlerRequestRepository, RegistrationRepository, Session,
        Transaction,
    },
    telemetry::Telemetry,
};

pub(super) struct InstrumentedSession {
    pub(super) inner: Box<dyn Session>,
    pub(super) telemetry: Telemetry,
}

pub(super) struct InstrumentedTransaction {
    pub(super) inner: Box<dyn Transaction>,
    pub(super) telemetry: Telemetry,
}

macro_rules! instrumented_session {
    ($name:ident) => {
        impl Session for $name {
            fn events(&mut self) -> Box<dyn EventRepository + '_> {
                let Self { inner, telemetry } = self;
                Box::new(InstrumentedEventRepository {
                    inner: inner.events(),
                    telemetry,
                })
            }

            fn handler_requests(&mut self) -> Box<dyn HandlerRequestRepository + '_> {
                let Self { inner, telemetry } = self;
                Box::new(InstrumentedHandlerRequestRepository {
                    inner: inner.handler_requests(),
                    telemetry,
                })
            }

            fn registrations(&mut self) -> Box<dyn RegistrationRepository + '_> {
                let Self { inner, telemetry } = self;
                Box::new(InstrumentedRegistrationRepository {
                    inner: inner.registrations(),
                    telemetry,
                })
            }

            fn connection(&mut self) -> Connection<'_> {
                self.inner.connection()
            }
        }
    };
}

instrumented_session!(InstrumentedSession);
instrumented_session!(InstrumentedTransaction);

#[async_trait]
impl Transaction for InstrumentedTransaction {
    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { inner, telemetry } = *self;
        telemetry.measured("commit", inner.commit(), |()| 0).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        let Self { inner, telemetry } = *self;
        telemetry.watched("rollback", inner.rollback()).await
    }

    async fn savepoint(&mut self) -> Result<()> {
        let call = self.inner.savepoint();
        self.telemetry.watched("savepoint", call).await
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        let call = self.inner.rollback_to_savepoint();
        self.telemetry.watched("rollback to savepoint", call).await
    }
}
