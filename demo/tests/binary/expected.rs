//! The numbers that a file must give, worked out from its JSON without the library, and without
//! the demo's own mapping and payloads.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Counts everything but `seconds`.
pub(crate) fn expected(lines: &str) -> Map<String, Value> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let mut add = |key, amount| *counts.entry(key).or_default() += amount;
        let requests = requests(event["type"].as_str().unwrap(), &event["data"], &mut add);
        add("events", 1);
        add("events_without_handlers", i64::from(requests == 0));
        add("handler_requests", requests);
    }
    let count = |key| counts.get(key).copied().unwrap_or_default();
    // Pings are tried three times and die; check runs are tried twice; all else once.
    let (pings, checks) = (count("pings"), count("checks"));
    let keys = ["events", "events_without_handlers", "handler_requests"];
    let tallies = [
        "commits",
        "stars",
        "activity",
        "notifications",
        "untriaged_issues",
    ];
    let mut all: Map<_, _> = keys
        .into_iter()
        .chain(tallies)
        .map(|key| (key.to_owned(), json!(count(key))))
        .collect();
    all.insert(
        "completed".to_owned(),
        json!(count("handler_requests") - pings),
    );
    all.insert("dead".to_owned(), json!(pings));
    all.insert("canceled".to_owned(), json!(0));
    all.insert(
        "executions".to_owned(),
        json!(count("handler_requests") + checks + 2 * pings),
    );
    all
}

/// How many handlers want an event, and what they count.
fn requests(name: &str, data: &Value, add: &mut impl FnMut(&'static str, i64)) -> i64 {
    let Some(name) = name.strip_prefix("com.github.") else {
        return 0;
    };
    let (kind, action) = name.split_once('.').unwrap_or((name, ""));
    let mut requests = 0;
    if kind == "push" && action.is_empty() {
        requests += 1;
        add(
            "commits",
            i64::try_from(data["commits"].as_array().unwrap().len()).unwrap(),
        );
    }
    if kind == "star" && (action == "created" || action == "deleted") {
        requests += 1;
        add("stars", if action == "created" { 1 } else { -1 });
    }
    if matches!(
        name,
        "issues.opened" | "pull_request.opened" | "discussion.created"
    ) {
        requests += 1;
        add("notifications", 1);
    }
    if name == "issues.opened" {
        requests += 1;
        add(
            "untriaged_issues",
            i64::from(data["issue"]["labels"].as_array().is_none_or(Vec::is_empty)),
        );
    }
    if !action.is_empty()
        && [
            "issues",
            "issue_comment",
            "pull_request",
            "pull_request_review",
        ]
        .contains(&kind)
    {
        requests += 1;
        add("activity", 1);
    }
    if name == "check_run.completed" {
        requests += 1;
        add("checks", 1);
    }
    if name == "ping" {
        requests += 1;
        add("pings", 1);
    }
    requests
}
