//! Handlers of GitHub's webhooks.

use std::{sync::Arc, time::Duration};

use tidings::{Backoff, Context, Event, Handler, HandlerError, HandlerResult, Payload};

use crate::{
    payloads::{IssueOpened, Push},
    tallies::{Tallies, Tally},
};

/// How long a request waits after an error: just long enough to see that it waits. Nothing that
/// these handlers wait for needs more.
const SOON: Duration = Duration::from_millis(20);

/// The handlers of GitHub's events.
pub(super) fn handlers(tallies: &Tallies) -> Vec<Handler> {
    [
        tallies
            .handler("index_commits", Tally::Commits, commits)
            .on("com.github.push"),
        tallies
            .handler("count_stars", Tally::Stars, stars)
            .on("com.github.star.created")
            .on("com.github.star.deleted"),
        tallies
            .handler("notify_maintainers", Tally::Notifications, one)
            .on("com.github.issues.opened")
            .on("com.github.pull_request.opened")
            .on("com.github.discussion.created")
            .priority(10),
        tallies
            .handler("triage", Tally::UntriagedIssues, untriaged)
            .on("com.github.issues.opened"),
        tallies
            .handler("record_activity", Tally::Activity, one)
            .on("com.github.issues.*")
            .on("com.github.issue_comment.*")
            .on("com.github.pull_request.*")
            .on("com.github.pull_request_review.*"),
        Handler::new("check_again", check_again).on("com.github.check_run.completed"),
        Handler::new("reach_hook", reach_hook)
            .on("com.github.ping")
            .max_errors(3),
    ]
    .map(|handler| handler.backoff(Backoff::constant(SOON)))
    .into()
}

fn commits(Payload(push): Payload<Push>) -> Result<i64, HandlerError> {
    Ok(i64::try_from(push.commits.len())?)
}

fn stars(event: Arc<Event>) -> Result<i64, HandlerError> {
    match event.name.as_str() {
        "com.github.star.created" => Ok(1),
        "com.github.star.deleted" => Ok(-1),
        other => Err(HandlerError::discard(format!(
            "{other} is not about a star"
        ))),
    }
}

fn untriaged(Payload(opened): Payload<IssueOpened>) -> Result<i64, HandlerError> {
    Ok(i64::from(!opened.issue.is_triaged()))
}

/// Every event counts.
fn one(_: Arc<Event>) -> Result<i64, HandlerError> {
    Ok(1)
}

/// A check that is not there yet when it is looked for the first time.
async fn check_again(_: Arc<Event>, context: Context) -> HandlerResult {
    match context.errors() {
        0 => Err(HandlerError::new("the check's log is not there yet")),
        _ => Ok(()),
    }
}

/// A hook that never answers.
async fn reach_hook(_: Arc<Event>, _: Context) -> HandlerResult {
    Err(HandlerError::new("the hook does not answer"))
}
