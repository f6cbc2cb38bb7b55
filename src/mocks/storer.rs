//! The mocks of a store and of its sessions and transactions.

use async_trait::async_trait;
use mockall::mock;

use crate::{
    error::Result,
    signal::Signals,
    store::{
        Capabilities, Connection, ConnectionType, EventRepository, HandlerRequestRepository,
        LeaseRenewer, Listener, Look, Outlook, RegistrationRepository, Session, Storer,
        Transaction,
    },
};

mock! {
    /// A mock of [`Storer`]: `expect_begin`, `expect_session`, ….
    #[derive(Debug)]
    pub Storer {}

    #[async_trait]
    impl Storer for Storer {
        async fn session(&self) -> Result<Box<dyn Session>>;
        async fn begin(&self) -> Result<Box<dyn Transaction>>;
        async fn lease_renewer(&self) -> Result<Box<dyn LeaseRenewer>>;
        fn signals(&self) -> Signals;
        fn capabilities(&self) -> Capabilities;
        fn connection_type(&self) -> ConnectionType;
        async fn look(&self, look: &Look) -> Result<Outlook>;
        async fn listener(&self) -> Result<Box<dyn Listener>>;
    }
}

mock! {
    /// A mock of [`Listener`]: `expect_listen`.
    pub Listener {}

    #[async_trait]
    impl Listener for Listener {
        async fn listen(&mut self) -> Result<()>;
    }
}

mock! {
    /// A mock of [`Session`]: `expect_events`, `expect_handler_requests`, …, each of which returns
    /// a box with a mock of its own.
    pub Session {}

    impl Session for Session {
        fn events<'a>(&'a mut self) -> Box<dyn EventRepository + 'a>;
        fn handler_requests<'a>(&'a mut self) -> Box<dyn HandlerRequestRepository + 'a>;
        fn registrations<'a>(&'a mut self) -> Box<dyn RegistrationRepository + 'a>;
        fn connection<'a>(&'a mut self) -> Connection<'a>;
    }
}

mock! {
    /// A mock of [`Transaction`]: what a [`MockSession`] expects, and `expect_commit`,
    /// `expect_rollback`, `expect_savepoint` and `expect_rollback_to_savepoint`. Code that drops a transaction calls neither.
    pub Transaction {}

    impl Session for Transaction {
        fn events<'a>(&'a mut self) -> Box<dyn EventRepository + 'a>;
        fn handler_requests<'a>(&'a mut self) -> Box<dyn HandlerRequestRepository + 'a>;
        fn registrations<'a>(&'a mut self) -> Box<dyn RegistrationRepository + 'a>;
        fn connection<'a>(&'a mut self) -> Connection<'a>;
    }

    #[async_trait]
    impl Transaction for Transaction {
        async fn commit(self: Box<Self>) -> Result<()>;
        async fn rollback(self: Box<Self>) -> Result<()>;
        async fn savepoint(&mut self) -> Result<()>;
        async fn rollback_to_savepoint(&mut self) -> Result<()>;
    }
}
