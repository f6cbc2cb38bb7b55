//! Odd input: it is stored and read back as it was, or refused with the same words by every store.

use std::time::Duration;

use chrono::{DateTime, TimeZone as _, Utc};

use super::{
    Target,
    kit::{Kit, event},
};
use crate::{
    error::StoreError,
    model::{Entity, Event, EventData, EventPattern, Priority, Registration},
    raiser::Raiser,
    signal::Signals,
    store::{EventClaim, EventFailure},
};

/// Texts that some database, collation or encoding has trouble with, and none of them has a reason to.
const ODD_TEXTS: [&str; 14] = [
    // The same to the eye, composed and decomposed.
    "\u{e9}",
    "e\u{301}",
    "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    "\u{202e}desrever",
    "\u{feff}bom",
    "line\u{2028}separator",
    "\u{ffff}",
    "\u{10ffff}",
    "'; DROP TABLE tidings_events; --",
    "100%_\\",
    "\"quoted\" `here`",
    "{p}$1?:name@x",
    "ſs ß İi",
    "\\u0000",
];

/// A text of so many bytes, the last character of which has four.
fn of_len(bytes: usize) -> String {
    let mut text = "x".repeat(bytes - 4);
    text.push('\u{1f389}');
    text
}

fn raiser() -> Raiser {
    Raiser::new(Signals::default())
}

/// Raises an event in each way: singly and among others, through the repository and through a raiser.
/// All ways agree, and what they accept is read back equal. Answers what was refused.
async fn raised(kit: &Kit<'_>, odd: &Event) -> Option<String> {
    let mut refusals = Vec::new();
    let mut session = kit.session().await;
    let copy = || odd.clone().with_id(crate::id::EventId::new());
    for is_batch in [false, true] {
        let one = copy();
        let mut batch = vec![one.clone()];
        if is_batch {
            batch.extend((0..20).map(|_| event("plain")));
        }
        let answer = session.events().raise(&batch).await;
        refusals.push(told(kit, &one, answer.err()).await);
        let one = copy();
        if let Some(first) = batch.first_mut() {
            *first = one.clone();
        }
        batch.truncate(if is_batch { 3 } else { 1 });
        for other in batch.iter_mut().skip(1) {
            *other = event("plain");
        }
        let answer = raiser().raise_all(&mut *session, batch).await;
        refusals.push(told(kit, &one, answer.err()).await);
    }
    assert!(
        refusals.windows(2).all(|two| two[0] == two[1]),
        "{refusals:?}"
    );
    refusals.pop().flatten()
}

/// What an error says without the event's id; the event is stored unless there is one.
async fn told(kit: &Kit<'_>, event: &Event, error: Option<StoreError>) -> Option<String> {
    let mut session = kit.session().await;
    let found = session.events().find(event.id).await.unwrap();
    match error {
        None => {
            let found = found.unwrap();
            assert_eq!(*found.event, *event);
            assert_eq!(found.event.data.as_str(), event.data.as_str());
            None
        }
        Some(StoreError::Invalid { thing, reason, .. }) => {
            assert_eq!(found, None, "what is refused is not stored");
            Some(format!(
                "{} {reason}",
                thing.replace(&event.id.to_string(), "it")
            ))
        }
        Some(other) => panic!("{other:?} is no refusal"),
    }
}

/// In every place where an event has a text.
pub async fn odd_texts_are_read_back_equal_or_refused_alike(target: &dyn Target) {
    let kit = Kit::new(target);
    for text in ODD_TEXTS
        .map(str::to_owned)
        .into_iter()
        .chain([of_len(255)])
    {
        let entity = Entity::new(text.as_str(), text.as_str());
        let odd = event(&text)
            .with_entity(entity)
            .with_header(text.as_str(), text.as_str());
        assert_eq!(raised(&kit, &odd).await, None, "{text:?}");
    }
    let bad = [
        (of_len(256), "is longer"),
        (of_len(257), "is longer"),
        ("a\0b".to_owned(), "control"),
    ];
    for (text, defect) in bad {
        let of_entity = |name: &str, id: &str| event("a").with_entity(Entity::new(name, id));
        for odd in [event(&text), of_entity(&text, "1"), of_entity("a", &text)] {
            let refusal = raised(&kit, &odd).await.unwrap();
            assert!(refusal.contains(defect), "{refusal}");
        }
    }
    for odd in [
        event("a").with_header("a\0", ""),
        event("a").with_header("a", "\0"),
    ] {
        let refusal = raised(&kit, &odd).await.unwrap();
        assert!(refusal.contains("NUL"), "{refusal}");
    }
}

/// Whatever is JSON, to the byte.
pub async fn odd_json_is_read_back_equal_or_refused_alike(target: &dyn Target) {
    let kit = Kit::new(target);
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let odd = [
        r#""\ud800""#.to_owned(),
        r#""\u0000""#.to_owned(),
        r#"{"\u0000":"\udc00\ud800"}"#.to_owned(),
        "1e400".to_owned(),
        "-0".to_owned(),
        "1e-400".to_owned(),
        "7".repeat(400),
        r#"{"a":1,"a":2,"":3}"#.to_owned(),
        " \t\r\n0 ".to_owned(),
        nested(127),
    ];
    for json in odd {
        let data = EventData::from_json(json.as_str()).unwrap();
        let refusal = raised(&kit, &Event::from_data("a", data)).await;
        assert_eq!(refusal, None, "{json}");
    }
    for depth in [128, 100_000] {
        let data = EventData::from_json(nested(depth)).unwrap();
        let refusal = raised(&kit, &Event::from_data("a", data)).await.unwrap();
        assert!(refusal.contains("nested deeper than 127"), "{refusal}");
    }
    for json in ["", "\u{feff}1", "nonsense", "1 2", "'a'", "NaN"] {
        assert!(EventData::from_json(json).is_err(), "{json}");
    }
}

/// At the limit and a byte beside it, where the last character has several bytes.
pub async fn data_is_refused_by_the_byte(target: &dyn Target) {
    let kit = Kit::new(target);
    let limit = Raiser::DEFAULT_MAX_DATA_LEN;
    let mut session = kit.session().await;
    for (len, is_accepted) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        let data = EventData::from_json(format!("\"{}\"", of_len(len - 2))).unwrap();
        let large = Event::from_data("a", data);
        let answer = raiser().raise(&mut *session, large.clone()).await;
        let refusal = told(&kit, &large, answer.err()).await;
        assert_eq!(refusal.is_none(), is_accepted, "{len}: {refusal:?}");
    }
}

/// Every instant that one store keeps, all keep.
pub async fn odd_times_are_read_back_equal_or_refused_alike(target: &dyn Target) {
    let kit = Kit::new(target);
    let year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap();
    let before_1970 = DateTime::from_timestamp_micros(-1).unwrap();
    let good = [
        year(-4712),
        year(0),
        year(1500),
        before_1970,
        before_1970 + Duration::from_micros(2),
        year(9999),
        year(262_142),
    ];
    for time in good {
        let mut odd = event("a");
        odd.timestamp = time;
        assert_eq!(raised(&kit, &odd).await, None, "{time}");
    }
    let leap = "2016-12-31T23:59:60Z".parse::<DateTime<Utc>>().unwrap();
    let fine = before_1970 + Duration::from_nanos(1);
    for (time, is_cut) in [
        (year(-4713), false),
        (DateTime::<Utc>::MIN_UTC, false),
        (leap, true),
        (fine, true),
        (year(-200_000) + Duration::from_nanos(1), false),
    ] {
        let mut odd = event("a");
        odd.timestamp = time;
        assert!(raised(&kit, &odd).await.is_some(), "{time}");
        let cut = event("a").with_timestamp(time);
        assert_eq!(raised(&kit, &cut).await.is_none(), is_cut, "{time}");
    }
}

/// Names of handlers, and patterns.
pub async fn odd_handlers_are_registered_or_refused_alike(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    let registration = |handler: &str| {
        let pattern = EventPattern::parse("a").unwrap();
        Registration::new(pattern, handler.into(), Priority::default(), 5)
    };
    for text in ODD_TEXTS
        .map(str::to_owned)
        .into_iter()
        .chain([of_len(255)])
    {
        let odd = registration(&text);
        session.registrations().register(&[odd]).await.unwrap();
        let all = session.registrations().all().await.unwrap();
        assert!(
            all.iter().any(|one| one.handler == text.as_str()),
            "{text:?}"
        );
    }
    for text in [of_len(256), "a\0b".to_owned()] {
        let mut registrations = session.registrations();
        let refused = registrations.register(&[registration(&text)]).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "{refused:?}"
        );
    }
}

/// The texts of errors are nobody's to refuse.
pub async fn odd_errors_are_kept_alike(target: &dyn Target) {
    let kit = Kit::new(target);
    let mut session = kit.session().await;
    for text in ODD_TEXTS.into_iter().chain(["a\0b", "\0"]) {
        let kept = text.replace('\0', "\u{2400}");
        let id = kit.raise(&["a"]).await.remove(0).id;
        let claim = EventClaim::new(kit.owner, Duration::from_secs(60), 1);
        let claimed = session.events().claim(&claim).await.unwrap();
        let attempt = claimed.first().unwrap().attempt;
        let failure = EventFailure::new(id, attempt, text, Duration::from_secs(3600));
        session.events().fail(&[failure]).await.unwrap();
        let stored = session.events().find(id).await.unwrap().unwrap();
        assert_eq!(stored.last_error.as_deref(), Some(kept.as_str()));
    }
}
