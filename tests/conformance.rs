//! The conformance suite on the in-memory store.
#![cfg(feature = "test-util")]

use std::{sync::Arc, time::Duration};

use tidings::{ManualClock, MemoryStore, conformance::Target, store::Storer};

struct Memory {
    store: MemoryStore,
    clock: ManualClock,
}

#[async_trait::async_trait]
impl Target for Memory {
    fn store(&self) -> Arc<dyn Storer> {
        Arc::new(self.store.clone())
    }

    async fn pass_time(&self, time: Duration) {
        self.clock.advance(time);
    }
}

fn memory() -> Memory {
    let clock = ManualClock::default();
    Memory {
        store: MemoryStore::with_clock(clock.clone()),
        clock,
    }
}

tidings::conformance_tests!(memory());
