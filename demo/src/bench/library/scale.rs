//! A drain beside many millions of rows that are none of its business.

use tidings::sqlx::PgPool;

use super::{Library, Result, drain::Drained, filling::Filling, tables, turn::Turn};
use crate::{
    arguments::SchedulerKind,
    bench::{system::System, tell},
};

/// Of the tables that are full.
const FULL: &str = "bench_full_";

impl Library {
    /// Makes tables with so many finished requests, and a tenth as many of each other kind.
    pub(in crate::bench) async fn make_full(&self, rows: u64) -> Result<()> {
        if self.place.system != System::Postgres {
            return Err("full tables are made on PostgreSQL only so far".into());
        }
        Turn::new(&self.place, FULL, &self.meter)
            .await?
            .close()
            .await;
        let pool = PgPool::connect(&self.place.url).await?;
        let filling = Filling {
            prefix: FULL,
            handler: "handler-1",
            rows,
        };
        let told = |kind: &str, count, took: std::time::Duration| {
            tell(&format!("  {count} {kind}: {took:.0?}"));
        };
        filling.fill(&pool, told).await?;
        pool.close().await;
        Ok(())
    }

    /// Drains as from empty tables, but from the full ones.
    pub(in crate::bench) async fn drain_from_full(&self, requests: u64) -> Result<Drained> {
        let mut turn = Turn::on(&self.place, FULL, &self.meter).await?;
        let events = turn.fill(requests).await?;
        let kind = SchedulerKind::Concurrent;
        let drained = turn.drain_all(kind, &events, 1).await?;
        turn.close().await;
        Ok(drained)
    }

    pub(in crate::bench) async fn drop_full(&self) -> Result<()> {
        tables::drop_all(&self.place, FULL).await
    }
}

// Here, since a bench of its own shares that file, and has no tests.
#[cfg(test)]
mod tests {
    use crate::bench::library::filling::{CHUNK, chunks};

    #[test]
    fn chunks_leave_nothing_out_and_nothing_twice() {
        let all: Vec<_> = chunks(5, 2 * CHUNK + 5).collect();
        assert_eq!(all, [(5, CHUNK + 5), (CHUNK + 5, 2 * CHUNK + 5)]);
        assert_eq!(chunks(5, 6).collect::<Vec<_>>(), [(5, 6)]);
        assert_eq!(chunks(5, 5).count(), 0);
    }
}
