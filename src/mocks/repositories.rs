//! The mocks of repositories and of the lease renewer.

use std::time::Duration;

use async_trait::async_trait;
use mockall::mock;

use crate::{
    error::Result,
    id::{EventId, HandlerRequestId, LeaseOwner},
    model::{Event, HandlerRequest, Registration},
    store::{
        AbsentHandler, Claim, ClaimedBatch, ClaimedEvent, EventClaim, EventFailure, EventFilter,
        EventRepository, EventStream, FanOut, FannedOut, HandlerRequestRepository,
        HandlerRequestStream, LeaseRenewer, LockMode, Page, Prune, Pruned, Raised, Registered,
        RegistrationRepository, Renamed, Renewal, Renewed, Replay, Replayed, RequestFilter,
        RescueLost, Rescued, Settled, Settlement, StoredEvent,
    },
    text::Name,
};

mock! {
    /// A mock of [`EventRepository`]: `expect_raise`, `expect_find`, ….
    pub EventRepository {}

    #[async_trait]
    impl EventRepository for EventRepository {
        async fn raise(&mut self, events: &[Event]) -> Result<Vec<Raised>>;
        async fn claim(&mut self, claim: &EventClaim) -> Result<Vec<ClaimedEvent>>;
        async fn fan_out(&mut self, fan_out: &FanOut) -> Result<FannedOut>;
        async fn fail(&mut self, failures: &[EventFailure]) -> Result<()>;
        async fn find(&mut self, id: EventId) -> Result<Option<StoredEvent>>;
        async fn find_for_update(&mut self, id: EventId, lock: LockMode) -> Result<Option<StoredEvent>>;
        async fn count_unprocessed(&mut self) -> Result<u64>;
        async fn oldest_unprocessed(&mut self) -> Result<Option<StoredEvent>>;
        async fn count(&mut self, filter: &EventFilter) -> Result<u64>;
        async fn list(&mut self, filter: &EventFilter, page: &Page<EventId>) -> Result<Vec<StoredEvent>>;
        fn stream<'a>(&'a mut self, filter: &EventFilter) -> EventStream<'a>;
        async fn prune(&mut self, prune: &Prune) -> Result<Pruned>;
    }
}

mock! {
    /// A mock of [`HandlerRequestRepository`]: `expect_reexecute_dead`, `expect_cancel`, ….
    pub HandlerRequestRepository {}

    #[async_trait]
    impl HandlerRequestRepository for HandlerRequestRepository {
        async fn claim(&mut self, claim: &Claim) -> Result<ClaimedBatch>;
        async fn claim_suspect(&mut self, claim: &Claim) -> Result<ClaimedBatch>;
        async fn settle(&mut self, settlements: &[Settlement]) -> Result<Vec<Settled>>;
        async fn hand_back(
            &mut self,
            owner: LeaseOwner,
            requests: &[(HandlerRequestId, u64)],
        ) -> Result<Vec<Settled>>;
        async fn rescue(&mut self, rescue: &RescueLost) -> Result<Rescued>;
        async fn find(&mut self, id: HandlerRequestId) -> Result<Option<HandlerRequest>>;
        async fn find_for_update(&mut self, id: HandlerRequestId, lock: LockMode) -> Result<Option<HandlerRequest>>;
        async fn of_event(&mut self, event: EventId) -> Result<Vec<HandlerRequest>>;
        async fn count_unexecuted(&mut self) -> Result<u64>;
        async fn oldest_unexecuted(&mut self) -> Result<Option<HandlerRequest>>;
        async fn count_dead(&mut self) -> Result<u64>;
        async fn dead(&mut self, filter: &RequestFilter, page: &Page<HandlerRequestId>) -> Result<Vec<HandlerRequest>>;
        async fn dead_event_names(&mut self) -> Result<Vec<Name>>;
        async fn dead_handler_names(&mut self) -> Result<Vec<Name>>;
        async fn count(&mut self, filter: &RequestFilter) -> Result<u64>;
        async fn list(&mut self, filter: &RequestFilter, page: &Page<HandlerRequestId>) -> Result<Vec<HandlerRequest>>;
        fn stream<'a>(&'a mut self, filter: &RequestFilter) -> HandlerRequestStream<'a>;
        async fn cancel(&mut self, id: HandlerRequestId) -> Result<()>;
        async fn reexecute(&mut self, id: HandlerRequestId) -> Result<()>;
        async fn reexecute_dead(&mut self, filter: &RequestFilter, limit: usize) -> Result<u64>;
        async fn run_now(&mut self, id: HandlerRequestId) -> Result<()>;
        async fn replay(&mut self, replay: &Replay) -> Result<Replayed>;
    }
}

mock! {
    /// A mock of [`RegistrationRepository`]: `expect_register`, `expect_retire`, ….
    pub RegistrationRepository {}

    #[async_trait]
    impl RegistrationRepository for RegistrationRepository {
        async fn register(&mut self, registrations: &[Registration]) -> Result<Registered>;
        async fn touch(&mut self, handlers: &[Name]) -> Result<()>;
        async fn all(&mut self) -> Result<Vec<Registration>>;
        async fn retire(&mut self, handler: &Name) -> Result<u64>;
        async fn rename(&mut self, from: &Name, to: &Name) -> Result<u64>;
        async fn rename_requests(&mut self, from: &Name, limit: usize) -> Result<Renamed>;
        async fn absent(&mut self, longer_than: Duration) -> Result<Vec<AbsentHandler>>;
    }
}

mock! {
    /// A mock of [`LeaseRenewer`]: `expect_renew`.
    pub LeaseRenewer {}

    #[async_trait]
    impl LeaseRenewer for LeaseRenewer {
        async fn renew(&mut self, renewal: &Renewal) -> Result<Renewed>;
    }
}
