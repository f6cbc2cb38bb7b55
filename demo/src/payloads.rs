//! What the demo's handlers read of their events' data: the demo's own events, and the few fields
//! of GitHub's webhooks that matter to it.

use serde::{Deserialize, Serialize};
use tidings::{DomainEvent, Entity};

/// A domain event: it is about an order.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    pub(crate) order: u64,
    pub(crate) total_cents: u64,
}

impl DomainEvent for OrderPlaced {
    const NAME: &'static str = "demo.order.placed";

    fn entity(&self) -> Option<Entity> {
        Some(Entity::new("order", self.order.to_string()))
    }
}

/// An application event: it is about nothing in particular.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StockCounted {
    pub(crate) pieces: u64,
}

impl DomainEvent for StockCounted {
    const NAME: &'static str = "demo.stock.counted";

    fn entity(&self) -> Option<Entity> {
        None
    }
}

/// `com.github.push`
#[derive(Debug, Deserialize)]
pub(crate) struct Push {
    pub(crate) commits: Vec<Commit>,
}

/// One commit of a push.
#[derive(Debug, Deserialize)]
pub(crate) struct Commit {}

/// `com.github.issues.opened`
#[derive(Debug, Deserialize)]
pub(crate) struct IssueOpened {
    pub(crate) issue: Issue,
}

/// An issue.
#[derive(Debug, Deserialize)]
pub(crate) struct Issue {
    /// GitHub leaves them out, or sends null, where an issue has none.
    #[serde(default)]
    labels: Option<Vec<Label>>,
}

/// A label of an issue.
#[derive(Debug, Deserialize)]
pub(crate) struct Label {}

impl Issue {
    /// Whether somebody has looked at it and given it a label.
    pub(crate) fn is_triaged(&self) -> bool {
        self.labels
            .as_ref()
            .is_some_and(|labels| !labels.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_without_labels_is_untriaged_however_that_is_written() {
        for (issue, triaged) in [
            (r#"{"issue":{}}"#, false),
            (r#"{"issue":{"labels":null}}"#, false),
            (r#"{"issue":{"labels":[]}}"#, false),
            (r#"{"issue":{"labels":[{"name":"bug"}],"title":"x"}}"#, true),
        ] {
            let opened: IssueOpened = serde_json::from_str(issue).unwrap();
            assert_eq!(opened.issue.is_triaged(), triaged, "{issue}");
        }
    }

    #[test]
    fn a_push_without_a_list_of_commits_is_no_push() {
        assert!(serde_json::from_str::<Push>(r#"{"ref":"main"}"#).is_err());
        assert!(serde_json::from_str::<Push>(r#"{"commits":3}"#).is_err());
        assert_eq!(
            serde_json::from_str::<Push>(r#"{"commits":[{"id":"a"},{}]}"#)
                .unwrap()
                .commits
                .len(),
            2
        );
    }
}
