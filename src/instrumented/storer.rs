//! The store.

use std::{error::Error, sync::Arc};

use async_trait::async_trait;

use super::{
    lease_renewer::InstrumentedLeaseRenewer,
    session::{InstrumentedSession, InstrumentedTransaction},
};
use crate::{
    error::Result,
    signal::Signals,
    store::{
        Capabilities, ConnectionType, LeaseRenewer, Listener, Look, Outlook, Session, Storer,
        Transaction,
    },
    telemetry::Telemetry,
};

/// A store whose calls are measured: how long batches take and how large they are, and which
/// calls fail. [`Telemetry`] lists the metrics.
///
/// Schedulers wrap the store that they are given, so an application needs this only to measure
/// calls of its own. Given to a scheduler, it would be wrapped once more and count twice.
///
/// ```
/// use std::sync::Arc;
/// use tidings::{InstrumentedStorer, MemoryStore, Telemetry, store::Storer};
///
/// let store = InstrumentedStorer::new(Arc::new(MemoryStore::new()), Telemetry::default());
/// assert_eq!(store.capabilities().system, "memory");
/// ```
#[derive(Clone, Debug)]
pub struct InstrumentedStorer {
    inner: Arc<dyn Storer>,
    telemetry: Telemetry,
}

impl InstrumentedStorer {
    /// Measures the calls to `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Storer>, telemetry: Telemetry) -> Self {
        Self {
            inner: store,
            telemetry,
        }
    }
}

#[async_trait]
impl Storer for InstrumentedStorer {
    async fn session(&self) -> Result<Box<dyn Session>> {
        let inner = self
            .telemetry
            .measured("session", self.inner.session(), |_| 0)
            .await?;
        Ok(Box::new(InstrumentedSession {
            inner,
            telemetry: self.telemetry.clone(),
        }))
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let inner = self
            .telemetry
            .measured("begin", self.inner.begin(), |_| 0)
            .await?;
        Ok(Box::new(InstrumentedTransaction {
            inner,
            telemetry: self.telemetry.clone(),
        }))
    }

    async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>> {
        let inner = self
            .telemetry
            .watched("lease_renewer", self.inner.lease_renewer())
            .await?;
        Ok(Box::new(InstrumentedLeaseRenewer {
            inner,
            telemetry: self.telemetry.clone(),
        }))
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

    fn is_conflict(&self, error: &(dyn Error + 'static)) -> bool {
        self.inner.is_conflict(error)
    }

    async fn look(&self, look: &Look) -> Result<Outlook> {
        self.telemetry.watched("look", self.inner.look(look)).await
    }

    async fn listener(&self) -> Result<Box<dyn Listener>> {
        let inner = self
            .telemetry
            .watched("listener", self.inner.listener())
            .await?;
        Ok(Box::new(InstrumentedListener {
            inner,
            telemetry: self.telemetry.clone(),
        }))
    }
}

struct InstrumentedListener {
    inner: Box<dyn Listener>,
    telemetry: Telemetry,
}

#[async_trait]
impl Listener for InstrumentedListener {
    async fn listen(&mut self) -> Result<()> {
        // It ends by being dropped, so that is no failure.
        let result = self.inner.listen().await;
        result.inspect_err(|error| self.telemetry.store_failed("listen", error))
    }
}
