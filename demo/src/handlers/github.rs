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
    let tallies = || tallies.clone();
    [
        Handler::with_state("index_commits", tallies(), index_commits).on("com.github.push"),
        Handler::with_state("count_stars", tallies(), count_stars)
            .on("com.github.star.created")
            .on("com.github.star.deleted"),
        Handler::with_state("notify_maintainers", tallies(), notify_maintainers)
            .on("com.github.issues.opened")
            .on("com.github.pull_request.opened")
            .on("com.github.discussion.created")
            .priority(10),
        Handler::with_state("triage", tallies(), triage).on("com.github.issues.opened"),
        Handler::with_state("record_activity", tallies(), record_activity)
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

async fn index_commits(
    tallies: Tallies,
    Payload(push): Payload<Push>,
    _: Context,
) -> HandlerResult {
    tallies.add(Tally::Commits, i64::try_from(push.commits.len())?);
    Ok(())
}

async fn count_stars(tallies: Tallies, event: Arc<Event>, _: Context) -> HandlerResult {
    match event.name.as_str() {
        "com.github.star.created" => tallies.add(Tally::Stars, 1),
        "com.github.star.deleted" => tallies.add(Tally::Stars, -1),
        other => {
            return Err(HandlerError::discard(format!(
                "{other} is not about a star"
            )));
        }
    }
    Ok(())
}

async fn notify_maintainers(tallies: Tallies, _: Arc<Event>, _: Context) -> HandlerResult {
    tallies.add(Tally::Notifications, 1);
    Ok(())
}

async fn triage(
    tallies: Tallies,
    Payload(opened): Payload<IssueOpened>,
    _: Context,
) -> HandlerResult {
    if !opened.issue.is_triaged() {
        tallies.add(Tally::UntriagedIssues, 1);
    }
    Ok(())
}

async fn record_activity(tallies: Tallies, _: Arc<Event>, _: Context) -> HandlerResult {
    tallies.add(Tally::Activity, 1);
    Ok(())
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
