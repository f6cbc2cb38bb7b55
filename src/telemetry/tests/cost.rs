//! What telemetry costs when nobody listens: no allocation for any event or request.

use std::{hint::black_box, time::Duration};

use super::{Telemetry, event, processed, request, timestamp, without_sdk};
use crate::{
    model::Outcome,
    store::{ClaimedRequest, ProcessedEvent},
    telemetry::{Round, RoundLink, propagation},
};

/// Everything that is recorded of one event and one request that succeeds at once.
fn record_one(
    telemetry: &Telemetry,
    round: &Round,
    link: &RoundLink,
    event: &ProcessedEvent,
    request: &ClaimedRequest,
) {
    telemetry.event_processed(round, event, timestamp());
    telemetry.workers_busy(1);
    let execution = telemetry.execution(link, request);
    drop(black_box(execution.instrument(std::future::ready(()))));
    telemetry.handler_ran(request, Duration::ZERO, None);
    execution.finish(None);
    telemetry.workers_busy(-1);
    telemetry.request_settled(request, &Outcome::Completed, timestamp());
}

#[test]
fn without_an_sdk_an_event_and_its_request_allocate_nothing() {
    for telemetry in [Telemetry::disabled(), without_sdk()] {
        let (mut raised, event) = ([event()], event());
        let (processed, request) = (processed(&event), request(event));
        let (round, execute_round) = (telemetry.process_round(), telemetry.execute_round());
        let link = execute_round.link();
        // Attribute sets, and the API's stack of contexts, are made once for a thread.
        propagation::inject_current(&mut raised);
        record_one(&telemetry, &round, &link, &processed, &request);
        let allocated = allocation_counter::measure(|| {
            for _ in 0..100 {
                propagation::inject_current(&mut raised);
                record_one(&telemetry, &round, &link, &processed, &request);
            }
        });
        assert_eq!(allocated.count_total, 0, "{telemetry:?}");
    }
}

#[test]
fn the_count_of_allocations_would_see_one() {
    let allocated = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!(allocated.count_total, 1);
}
