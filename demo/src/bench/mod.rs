//! How fast the library is, beside loops of [bare SQL](bare) on the same server in the same run: the
//! machine's own speed changes from hour to hour, ratios of one run hold.

mod bare;
mod figures;
mod library;
mod options;
mod sample;
mod workloads;

use std::error::Error;

pub(crate) use self::options::BenchOptions;
use self::{bare::Connector, figures::Figures, library::Library};
use crate::{
    failure::Failure,
    store::{Target, redact},
};

/// Whatever went wrong.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures, and prints what came of it.
pub(crate) async fn run(options: &BenchOptions) -> Result<(), Failure> {
    let Target::Postgres(url) = options.store.target()? else {
        return Err(Failure::Bench(
            "the bench measures PostgreSQL only so far; give --store postgres://…".into(),
        ));
    };
    measure(options, url).await.map_err(Failure::Bench)
}

async fn measure(options: &BenchOptions, url: &str) -> Result<()> {
    let (bare, library) = (Connector::new(url), Library::new(url));
    let mut figures = Figures::default();
    for round in 1..=options.rounds {
        tell(&format!("round {round} of {}", options.rounds));
        for workload in options.workloads() {
            tell(&format!("  {workload}"));
            workload.run(&bare, &library, options, &mut figures).await?;
        }
    }
    figures.print(options.format, options.rounds)
}

/// Says how far it is. Whoever closes standard error wants no progress.
fn tell(text: &str) {
    use std::io::Write as _;

    drop(writeln!(std::io::stderr(), "{}", redact(text)));
}
