//! How fast the library is, beside loops of [bare SQL](bare) on the same server in the same run: the
//! machine's own speed changes from hour to hour, ratios of one run hold.

mod bare;
mod costs;
mod figures;
mod floors;
mod left;
mod library;
mod options;
mod part;
mod patience;
mod plots;
mod proxy;
mod report;
mod sample;
mod shape;
mod unit;
mod workloads;

use std::{error::Error, sync::Arc};

use self::{
    bare::Connector, costs::Meter, figures::Figures, library::Library, proxy::Proxy,
    workloads::Workload,
};
pub(crate) use self::{
    library::drop_tables,
    options::BenchOptions,
    part::{PartOptions, run as run_part},
};
use crate::place::{Place, System};
use crate::{failure::Failure, store::redact};

/// Whatever went wrong.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Those who are measured, on one database.
#[derive(Debug)]
struct Contenders {
    system: System,
    bare: Connector,
    library: Library,
}

impl Contenders {
    fn new(place: &Place, meter: &Meter) -> Self {
        Self {
            system: place.system,
            bare: Connector::new(place.clone(), meter.clone()),
            library: Library::new(place.clone(), meter.clone()),
        }
    }
}

/// Measures, and prints what came of it.
pub(crate) async fn run(options: &BenchOptions) -> Result<(), Failure> {
    let Some(place) = Place::of(options.store.target()?) else {
        return Err(Failure::Bench(
            "the bench measures databases; give --store postgres://…, sqlite:… or mysql://…".into(),
        ));
    };
    let missed = measure(options, &place).await.map_err(Failure::Bench)?;
    match missed.is_empty() || !options.check {
        true => Ok(()),
        false => Err(Failure::Floors(missed.join("\n  "))),
    }
}

/// Answers which floors were missed.
async fn measure(options: &BenchOptions, place: &Place) -> Result<Vec<String>> {
    let meter = Meter::connect(place).await?;
    let contenders = Contenders::new(place, &meter);
    let conditions = contenders.library.conditions().await?;
    if let Some(settings) = conditions.not_durable().filter(|_| options.check) {
        return Err(
            format!("floors are those of a durable server, and this one has {settings}").into(),
        );
    }
    let workloads: Vec<_> = options.workloads().collect();
    let mut figures = Figures::default();
    let counted = workloads.iter().filter(|one| one.counts_trips());
    let counted: Vec<_> = counted.copied().collect();
    if let Some(proxy) = Proxy::before(place).await?.filter(|_| !counted.is_empty()) {
        tell("counting round trips");
        figures.count_trips(true);
        let meter = meter.counting(Arc::clone(&proxy.traffic));
        let contenders = Contenders::new(&proxy.place, &meter);
        run_all(&counted, &contenders, options, false, &mut figures).await?;
        figures.count_trips(false);
    }
    let has_full = workloads.contains(&Workload::Scale);
    if has_full {
        tell("filling tables");
        contenders
            .library
            .make_full(options.finished_rows())
            .await?;
    }
    for round in 1..=options.rounds {
        tell(&format!("round {round} of {}", options.rounds));
        let due = workloads.iter().filter(|one| round == 1 || !one.is_once());
        let due: Vec<_> = due.copied().collect();
        // Who comes later finds caches warmer, and a disk that others have filled: every other round goes
        // the other way, so that this is nobody's advantage.
        let is_reversed = round % 2 == 0;
        run_all(&due, &contenders, options, is_reversed, &mut figures).await?;
    }
    if has_full {
        contenders.library.drop_full().await?;
    }
    report::print(&figures, &conditions, place.system, options.format)?;
    if let Some(directory) = &options.plots {
        plots::write(&figures, directory)?;
    }
    Ok(floors::missed(place.system, &figures, &workloads))
}

/// Runs each workload once.
async fn run_all(
    workloads: &[Workload],
    contenders: &Contenders,
    options: &BenchOptions,
    is_reversed: bool,
    figures: &mut Figures,
) -> Result<()> {
    for workload in workloads {
        tell(&format!("  {workload}"));
        workload
            .run(contenders, options, is_reversed, figures)
            .await?;
    }
    Ok(())
}

/// Says how far it is. Whoever closes standard error wants no progress.
fn tell(text: &str) {
    use std::io::Write as _;

    drop(writeln!(std::io::stderr(), "{}", redact(text)));
}
