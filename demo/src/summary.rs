//! What a drained demo has done, as the store has it.

use futures_util::TryStreamExt;
use serde::Serialize;
use tidings::{
    RequestState, Result,
    store::{EventFilter, RequestFilter, Session, Storer},
};

use crate::{
    arguments::Format, failure::Failure, import::Imported, screen::Screen, status::count_in,
    tallies::Counts,
};

/// The numbers; their names are those of the JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    events: u64,
    events_without_handlers: u64,
    handler_requests: u64,
    completed: u64,
    dead: u64,
    canceled: u64,
    executions: u64,
    commits: i64,
    stars: i64,
    activity: i64,
    notifications: i64,
    untriaged_issues: i64,
    seconds: f64,
}

impl Summary {
    /// Asks the store for everything but the tallies and the time.
    pub(crate) async fn read(store: &dyn Storer, tallies: Counts, seconds: f64) -> Result<Self> {
        let mut session = store.session().await?;
        let events = session.events().count(&EventFilter::default()).await?;
        let unwanted = EventFilter::default().processed(true).with_requests(false);
        let events_without_handlers = session.events().count(&unwanted).await?;
        let handler_requests = session
            .handler_requests()
            .count(&RequestFilter::default())
            .await?;
        let completed = count_in(&mut *session, RequestState::Completed).await?;
        let dead = count_in(&mut *session, RequestState::Dead).await?;
        let canceled = count_in(&mut *session, RequestState::Canceled).await?;
        let executions = count_executions(&mut *session).await?;
        Ok(Self {
            events,
            events_without_handlers,
            handler_requests,
            completed,
            dead,
            canceled,
            executions,
            commits: tallies.commits,
            stars: tallies.stars,
            activity: tallies.activity,
            notifications: tallies.notifications,
            untriaged_issues: tallies.untriaged_issues,
            seconds: (seconds * 1000.0).round() / 1000.0,
        })
    }

    /// Prints the summary on standard output.
    pub(crate) fn print(
        &self,
        format: Format,
        imported: &Imported,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let text = match format {
            Format::Text => self.text(imported),
            Format::Json => {
                serde_json::to_string(self).map_err(|error| Failure::Output(error.into()))?
            }
        };
        screen.print(&text).map_err(Failure::Output)
    }

    fn text(&self, imported: &Imported) -> String {
        let repeated = match imported.repeated {
            0 => String::new(),
            count => format!(" ({count} of this input were raised before)"),
        };
        let rows = [
            ("events", format!("{}{repeated}", self.events)),
            ("without handlers", self.events_without_handlers.to_string()),
            ("handler requests", self.handler_requests.to_string()),
            ("completed", self.completed.to_string()),
            ("dead", self.dead.to_string()),
            ("canceled", self.canceled.to_string()),
            ("executions", self.executions.to_string()),
            ("commits", self.commits.to_string()),
            ("stars", self.stars.to_string()),
            ("activity", self.activity.to_string()),
            ("notifications", self.notifications.to_string()),
            ("untriaged issues", self.untriaged_issues.to_string()),
            ("seconds", format!("{:.3}", self.seconds)),
        ];
        rows.map(|(name, value)| format!("{name:<18}{value}"))
            .join("\n")
    }
}

/// How often handlers ran, over all requests.
async fn count_executions(session: &mut dyn Session) -> Result<u64> {
    let mut requests = session.handler_requests();
    let all = requests.stream(&RequestFilter::default());
    all.try_fold(0, async |sum, request| {
        Ok(sum + u64::from(request.executions))
    })
    .await
}
