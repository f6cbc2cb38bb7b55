//! The trace context of the code that raised an event, in the event's headers, as the W3C
//! recommendation *Trace Context* writes it.
//!
//! The API has no propagator of that kind (it is in the SDK, which an application may not have),
//! and the global propagator is the application's choice for its own protocols; headers in a store
//! outlive such choices. So they are written and read here.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};

use crate::model::{Event, Headers};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The most bytes of a `tracestate` that are written. The recommendation asks to pass on at least
/// 512, and every event of a traced request carries them.
const MAX_TRACESTATE_LEN: usize = 512;

/// Writes the current trace context into the headers of events that have none.
pub(crate) fn inject_current(events: &mut [Event]) {
    Context::map_current(|context| {
        let span = context.span();
        if span.span_context().is_valid() {
            inject(span.span_context(), events);
        }
    });
}

fn inject(context: &SpanContext, events: &mut [Event]) {
    let parent = traceparent(context);
    let state = tracestate(context.trace_state());
    for event in events
        .iter_mut()
        .filter(|event| !event.headers.contains_key(TRACEPARENT))
    {
        event.headers.insert(TRACEPARENT.to_owned(), parent.clone());
        // What is there belongs to another trace.
        event.headers.remove(TRACESTATE);
        if !state.is_empty() {
            event.headers.insert(TRACESTATE.to_owned(), state.clone());
        }
    }
}

/// The trace context in an event's headers, if there is a valid one.
pub(super) fn extract(headers: &Headers) -> Option<SpanContext> {
    let (trace, span, flags) = parse_traceparent(headers.get(TRACEPARENT)?)?;
    // A defect in the state does not make the parent invalid.
    let state = headers
        .get(TRACESTATE)
        .and_then(|state| state.parse().ok())
        .unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

fn traceparent(context: &SpanContext) -> String {
    let sampled = u8::from(context.is_sampled());
    format!(
        "00-{}-{}-{sampled:02x}",
        context.trace_id(),
        context.span_id()
    )
}

/// The first members that fit.
fn tracestate(state: &TraceState) -> String {
    let mut text = String::new();
    for (key, value) in state {
        let separator = usize::from(!text.is_empty());
        if text.len() + separator + key.len() + 1 + value.len() > MAX_TRACESTATE_LEN {
            break;
        }
        if separator == 1 {
            text.push(',');
        }
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    text
}

/// Reads `version-trace-span-flags`. Later versions may append fields, which are skipped.
fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut fields = text.splitn(5, '-');
    let version = parse_hex(fields.next()?, 2)?;
    let trace = TraceId::from(parse_hex(fields.next()?, 32)?);
    let span = SpanId::from(u64::try_from(parse_hex(fields.next()?, 16)?).ok()?);
    let flags = u8::try_from(parse_hex(fields.next()?, 2)?).ok()?;
    let is_complete = match version {
        0 => fields.next().is_none(),
        0xff => false,
        _ => true,
    };
    let is_valid = is_complete && trace != TraceId::INVALID && span != SpanId::INVALID;
    is_valid.then(|| (trace, span, TraceFlags::new(flags) & TraceFlags::SAMPLED))
}

/// Reads exactly so many hexadecimal digits in lower case.
fn parse_hex(digits: &str, len: usize) -> Option<u128> {
    let is_lower_hex = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != len || !is_lower_hex {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn event() -> Event {
        Event::new("order.placed", &()).unwrap()
    }

    fn context(state: TraceState) -> SpanContext {
        let trace = TraceId::from_hex(TRACE).unwrap();
        let span = SpanId::from_hex(SPAN).unwrap();
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, state)
    }

    fn headers(traceparent: &str) -> Headers {
        Headers::from([(TRACEPARENT.to_owned(), traceparent.to_owned())])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let state = TraceState::from_key_value([("vendor", "a b"), ("other", "2")]).unwrap();
        for flags in [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED] {
            let written = context(state.clone());
            let written = SpanContext::new(
                written.trace_id(),
                written.span_id(),
                flags,
                false,
                state.clone(),
            );
            let mut events = [event()];
            inject(&written, &mut events);
            let read = extract(&events[0].headers).unwrap();
            assert_eq!(
                (read.trace_id(), read.span_id()),
                (written.trace_id(), written.span_id())
            );
            assert_eq!((read.trace_flags(), read.trace_state()), (flags, &state));
            assert!(read.is_remote());
        }
    }

    #[test]
    fn the_header_is_what_the_recommendation_shows() {
        let mut events = [event()];
        inject(&context(TraceState::NONE), &mut events);
        assert_eq!(events[0].headers, headers(&format!("00-{TRACE}-{SPAN}-01")));
    }

    #[test]
    fn an_event_with_a_context_of_its_own_keeps_it() {
        let own = format!("00-{SPAN}{SPAN}-{SPAN}-00");
        let mut events = [
            event()
                .with_header(TRACEPARENT, &own)
                .with_header(TRACESTATE, "a=1"),
            event(),
        ];
        inject(&context(TraceState::NONE), &mut events);
        assert_eq!(events[0].headers[TRACEPARENT], own);
        assert_eq!(events[0].headers[TRACESTATE], "a=1");
        assert_eq!(
            events[1].headers[TRACEPARENT],
            format!("00-{TRACE}-{SPAN}-01")
        );
    }

    #[test]
    fn the_state_of_another_trace_does_not_stay_beside_a_new_parent() {
        let mut events = [event().with_header(TRACESTATE, "a=1")];
        inject(&context(TraceState::NONE), &mut events);
        assert!(!events[0].headers.contains_key(TRACESTATE));
    }

    #[test]
    fn without_a_span_nothing_is_written() {
        let mut events = [event()];
        inject_current(&mut events);
        assert_eq!(events[0].headers, Headers::new());
    }

    #[test]
    fn a_long_state_is_cut_between_members() {
        let members: Vec<_> = (0..20)
            .map(|n| (format!("vendor{n}"), "x".repeat(100)))
            .collect();
        let text = tracestate(&TraceState::from_key_value(members).unwrap());
        assert!(text.len() <= MAX_TRACESTATE_LEN);
        assert_eq!(text.parse::<TraceState>().unwrap().into_iter().count(), 4);
    }

    #[test]
    fn malformed_parents_are_ignored() {
        for (defect, text) in [
            ("empty", String::new()),
            ("not a context", "hello".to_owned()),
            ("no flags", format!("00-{TRACE}-{SPAN}")),
            ("empty flags", format!("00-{TRACE}-{SPAN}-")),
            (
                "a field too many in version 00",
                format!("00-{TRACE}-{SPAN}-01-00"),
            ),
            (
                "a trailing dash in version 00",
                format!("00-{TRACE}-{SPAN}-01-"),
            ),
            ("version ff", format!("ff-{TRACE}-{SPAN}-01")),
            ("a short version", format!("0-{TRACE}-{SPAN}-01")),
            (
                "a version that is no number",
                format!("zz-{TRACE}-{SPAN}-01"),
            ),
            ("a zero trace", format!("00-{}-{SPAN}-01", "0".repeat(32))),
            ("a zero span", format!("00-{TRACE}-{}-01", "0".repeat(16))),
            (
                "upper case",
                format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            ),
            ("a short trace", format!("00-{}-{SPAN}-01", &TRACE[1..])),
            ("a long trace", format!("00-0{TRACE}-{SPAN}-01")),
            ("a long span", format!("00-{TRACE}-0{SPAN}-01")),
            ("a sign", format!("00-+{}-{SPAN}-01", &TRACE[1..])),
            ("a space", format!(" 00-{TRACE}-{SPAN}-01")),
            ("flags that are no number", format!("00-{TRACE}-{SPAN}-0x")),
            ("letters beyond ASCII", format!("00-{TRACE}-{SPAN}-é")),
            ("other separators", format!("00_{TRACE}_{SPAN}_01")),
        ] {
            assert_eq!(extract(&headers(&text)), None, "{defect}: {text:?}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for text in [
            format!("01-{TRACE}-{SPAN}-01"),
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds"),
        ] {
            assert_eq!(
                extract(&headers(&text)).unwrap().trace_id(),
                TraceId::from_hex(TRACE).unwrap(),
                "{text}"
            );
        }
    }

    #[test]
    fn unknown_flags_are_not_passed_on() {
        let read = extract(&headers(&format!("00-{TRACE}-{SPAN}-ff"))).unwrap();
        assert_eq!(read.trace_flags(), TraceFlags::SAMPLED);
        let read = extract(&headers(&format!("00-{TRACE}-{SPAN}-02"))).unwrap();
        assert_eq!(read.trace_flags(), TraceFlags::NOT_SAMPLED);
    }

    #[test]
    fn a_malformed_state_does_not_take_the_parent_with_it() {
        let mut headers = headers(&format!("00-{TRACE}-{SPAN}-01"));
        headers.insert(TRACESTATE.to_owned(), "no members".to_owned());
        let read = extract(&headers).unwrap();
        assert_eq!(read.trace_state(), &TraceState::NONE);
    }

    #[test]
    fn a_state_without_a_parent_is_no_context() {
        let headers = Headers::from([(TRACESTATE.to_owned(), "a=1".to_owned())]);
        assert_eq!(extract(&headers), None);
    }
}
