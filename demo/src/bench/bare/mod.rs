//! Loops of bare SQL that do the least which a workload needs: what the library is measured beside.
//! Their statements are files under `demo/benches/reference`, so that they can be read and argued
//! about; the code here only runs them.

mod common;
mod json;
pub(super) mod latency;
pub(super) mod loops;
mod mysql;
mod postgres;
mod sections;
pub(super) mod sqlite;

use async_trait::async_trait;
use tidings::sqlx;
use uuid::Uuid;

use self::{common::Common, sections::Sections};
use super::costs::Meter;
use crate::place::{Place, System};

/// The data of every event and job: 200 bytes of JSON.
pub(super) const DATA: &str = r#"{"order":"4711-0815","customer":"c-1000","total_cents":129000,"currency":"EUR","lines":[{"sku":"A-1","count":2},{"sku":"B-22","count":1}],"note":"to be left at the back door, please, thank you."}"#;
/// The name of every event.
pub(super) const EVENT: &str = "order.placed";

/// Opens connections for references.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    place: Place,
    meter: Meter,
}

impl Connector {
    pub(super) const fn new(place: Place, meter: Meter) -> Self {
        Self { place, meter }
    }

    async fn connect(&self, kind: Kind) -> sqlx::Result<Box<dyn Bare>> {
        let url = &self.place.url;
        Ok(match self.place.system {
            System::Postgres => Box::new(postgres::Postgres::connect(url, kind).await?),
            System::Sqlite => Box::new(sqlite::SqliteBare::connect(url, kind).await?),
            System::MySql => Box::new(mysql::MySqlBare::connect(url, kind).await?),
        })
    }
}

/// Which statements a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// R0 and R5.
    Loop,
    /// R0u.
    LoopUnpinned,
    /// R1 and R2.
    Raise,
    /// R3 and R3c.
    Work,
}

/// A request of R3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    event: Uuid,
    handler: i32,
}

/// A connection that runs the statements of a reference.
#[async_trait]
trait Bare: Common {
    /// Fills the table of jobs.
    async fn fill(&mut self, count: i64) -> sqlx::Result<()>;

    /// Claims jobs.
    async fn claim_jobs(&mut self, limit: i64) -> sqlx::Result<Vec<i64>>;

    /// Raises events in one statement.
    async fn raise_many(&mut self, ids: &[Uuid]) -> sqlx::Result<()>;

    /// Makes so many handlers of the event.
    async fn make_handlers(&mut self, count: i32) -> sqlx::Result<()>;

    /// Makes requests of events and completes none; they are leased.
    async fn born_leased(&mut self, events: i64, owner: Uuid) -> sqlx::Result<Vec<Made>>;

    /// Makes requests of events, which wait to be claimed; answers how many.
    async fn born_ready(&mut self, events: i64) -> sqlx::Result<u64>;

    /// Claims requests of a handler.
    async fn claim(&mut self, limit: i64, handler: i32, owner: Uuid) -> sqlx::Result<Vec<Made>>;

    /// Completes requests.
    async fn settle(&mut self, made: &[Made], owner: Uuid) -> sqlx::Result<()>;
}
