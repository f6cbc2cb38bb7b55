//! What becomes of good lines and of every kind of bad one.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings::EventData;

use super::*;

/// A CloudEvent with what it must have, changed by `change`.
fn line(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event =
        json!({ "specversion": "1.0", "id": "1", "source": "/test", "type": "order.placed" });
    change(&mut event);
    event.to_string().into_bytes()
}

#[test]
fn every_attribute_is_kept_somewhere() {
    let text = br#"{"specversion":"1.0","id":"17","source":"/shop","type":"order.placed",
        "time":"2026-01-31T13:00:00.123456789+01:00","subject":"4711","entityname":"order",
        "datacontenttype":"application/json","dataschema":"/v2","tries":3,"vip":true,"gone":null,
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {"total" : 1.50, "b":1, "a":2} }"#;
    let event = parse(text).unwrap();
    assert_eq!(event.name, "order.placed");
    assert_eq!(event.entity, Some(Entity::new("order", "4711")));
    assert_eq!(
        event.timestamp.to_rfc3339(),
        "2026-01-31T12:00:00.123456+00:00"
    );
    assert_eq!(event.data.as_str(), r#"{"total" : 1.50, "b":1, "a":2}"#);
    let headers: Vec<_> = event
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("ce-datacontenttype", "application/json"),
            ("ce-dataschema", "/v2"),
            ("ce-id", "17"),
            ("ce-source", "/shop"),
            ("ce-tries", "3"),
            ("ce-vip", "true"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            ),
        ]
    );
    assert_eq!(event.correlation_id, event.id.into());
}

#[test]
fn an_event_needs_both_halves_of_an_entity() {
    let event = parse(&line(|event| event["subject"] = json!("4711"))).unwrap();
    assert_eq!(
        (event.entity, event.headers["ce-subject"].as_str()),
        (None, "4711")
    );
    let event = parse(&line(|event| event["entityname"] = json!("order"))).unwrap();
    assert_eq!(
        (event.entity, event.headers["ce-entityname"].as_str()),
        (None, "order")
    );
}

#[test]
fn data_is_optional_and_may_be_any_json() {
    assert_eq!(parse(&line(|_| {})).unwrap().data.as_str(), "null");
    for data in [
        json!(null),
        json!(1),
        json!("text"),
        json!([1, "x"]),
        json!({}),
    ] {
        let event = parse(&line(|event| event["data"] = data.clone())).unwrap();
        assert_eq!(event.data.as_str(), data.to_string());
    }
}

#[test]
fn the_same_line_has_the_same_id_and_others_have_others() {
    let timed = |time: &str| line(|event| event["time"] = json!(time));
    let id = |line: &[u8]| parse(line).unwrap().id;
    assert_eq!(
        id(&timed("2026-01-31T12:00:00Z")),
        id(&timed("2026-01-31T13:00:00+01:00"))
    );
    assert_eq!(id(&line(|_| {})), id(&line(|_| {})));
    assert_ne!(
        id(&line(|_| {})),
        id(&line(|event| event["id"] = json!("2")))
    );
    assert_ne!(
        id(&line(|_| {})),
        id(&line(|event| event["source"] = json!("/other")))
    );
}

#[test]
fn a_nesting_that_would_exhaust_a_stack_is_refused_and_one_at_the_limit_is_data() {
    let nested = |depth| {
        let data = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let text =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"x","data":{data}}}"#);
        (parse(text.as_bytes()), data)
    };
    let (parsed, data) = nested(EventData::MAX_DEPTH);
    assert_eq!(parsed.unwrap().data.as_str(), data);
    for depth in [EventData::MAX_DEPTH + 1, 100_000] {
        let refused = nested(depth).0.unwrap_err().to_string();
        assert!(refused.contains("nested deeper than 127"), "{refused}");
    }
}

#[test]
fn each_kind_of_bad_line_has_its_reason() {
    let cases: &[(&[u8], &str)] = &[
        (
            b"{",
            "it is not JSON: EOF while parsing an object (column 1)",
        ),
        (b"nonsense", "it is not JSON: expected ident (column 2)"),
        (
            br#"{"specversion":"1.0"} x"#,
            "it is not JSON: trailing characters (column 23)",
        ),
        (
            br#"{"data":[1,}"#,
            "it is not JSON: expected value (column 12)",
        ),
        (
            b"[]",
            "it is not a CloudEvent: invalid type: sequence, expected an object (column 0)",
        ),
        (
            b"7",
            "it is not a CloudEvent: invalid type: integer `7`, expected an object (column 1)",
        ),
        (
            b"{}",
            "it has no `specversion`, which every CloudEvent must have",
        ),
        (b"{\"id\":\"\xff\"}", "it is not UTF-8 at byte 8"),
    ];
    for (line, reason) in cases {
        assert_eq!(
            parse(line).unwrap_err().to_string(),
            *reason,
            "{:?}",
            String::from_utf8_lossy(line)
        );
    }
}

#[test]
fn each_bad_attribute_has_its_reason() {
    let cases: &[(&str, Value, &str)] = &[
        (
            "specversion",
            json!("0.3"),
            "its `specversion` is \"0.3\"; only CloudEvents \"1.0\" can be read",
        ),
        ("specversion", json!(1), "its `specversion` is not a text"),
        (
            "type",
            json!(null),
            "it has no `type`, which every CloudEvent must have",
        ),
        ("type", json!(""), "its `type` is empty"),
        (
            "id",
            json!(null),
            "it has no `id`, which every CloudEvent must have",
        ),
        ("source", json!(7), "its `source` is not a text"),
        (
            "time",
            json!("yesterday"),
            "its `time` is \"yesterday\", which is not a time such as 2026-01-31T12:00:00Z (RFC 3339)",
        ),
        (
            "data_base64",
            json!("AA=="),
            "it has `data_base64`; only JSON in `data` can be read",
        ),
    ];
    for (attribute, value, reason) in cases {
        let defect = parse(&line(|event| event[*attribute] = value.clone())).unwrap_err();
        assert_eq!(defect.to_string(), *reason, "{attribute} = {value}");
    }
}

#[test]
fn what_the_library_refuses_is_refused_before_it_is_raised() {
    let reason =
        |change: &dyn Fn(&mut Value)| parse(&line(|event| change(event))).unwrap_err().to_string();
    assert!(reason(&|event| event["type"] = json!("order.*")).contains("contains a *"));
    assert!(
        reason(&|event| event["type"] = json!("x".repeat(256))).contains("longer than 255 bytes")
    );
    assert!(reason(&|event| event["ext"] = json!("x".repeat(70_000))).contains("headers"));
    let large = "x".repeat(Raiser::DEFAULT_MAX_DATA_LEN - 1);
    assert!(
        reason(&|event| event["data"] = json!(large)).contains("more than the limit of 1048576")
    );
    let fits = "x".repeat(Raiser::DEFAULT_MAX_DATA_LEN - 2);
    assert!(parse(&line(|event| event["data"] = json!(fits))).is_ok());
}

#[test]
fn attributes_are_simple_and_there_once() {
    let reason = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    assert!(reason(r#"{"ext":{"a":1}}"#).contains("`ext`: invalid type: map, expected a text"));
    assert!(reason(r#"{"ext":1.5}"#).contains("`ext`: invalid type: floating point"));
    assert!(reason(r#"{"id":"1","id":"2"}"#).contains("`id` is there twice"));
    assert!(reason(r#"{"data":null,"data":1}"#).contains("`data` is there twice"));
}

proptest! {
    #[test]
    fn any_bytes_give_an_event_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(defect) = parse(&bytes) {
            prop_assert!(!defect.to_string().is_empty());
        }
    }

    #[test]
    fn a_good_line_cut_anywhere_is_bad(cut in 0_usize..60) {
        let whole = line(|event| event["data"] = json!({ "a": [1, 2, 3] }));
        prop_assume!(cut < whole.len());
        prop_assert!(parse(&whole[..cut]).is_err());
    }

    #[test]
    fn data_is_kept_to_the_byte(text in r#"\PC{0,40}"#, number in any::<i64>()) {
        let data = format!("{{ {} :\t[{number}.50, true] }}", json!(text));
        let whole = format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"x","data": {data} }}"#);
        let event = parse(whole.as_bytes()).unwrap();
        prop_assert_eq!(event.data.as_str(), data);
    }

    #[test]
    fn texts_survive(id in r"[^\x00]{1,20}", source in r"[^\x00]{1,20}", extension in r"[^\x00]{0,20}") {
        let event = parse(&line(|event| {
            event["id"] = json!(id);
            event["source"] = json!(source);
            event["ext"] = json!(extension);
        }))
        .unwrap();
        prop_assert_eq!(&event.headers["ce-id"], &id);
        prop_assert_eq!(&event.headers["ce-source"], &source);
        prop_assert_eq!(&event.headers["ce-ext"], &extension);
    }
}
