//! Reads metrics and spans back from the SDK's in-memory exporters. Shared with the integration
//! tests, so it uses nothing but the public API.

use std::collections::BTreeMap;

use opentelemetry::{KeyValue, trace::Status};
use opentelemetry_sdk::{
    metrics::{
        InMemoryMetricExporter, SdkMeterProvider,
        data::{AggregatedMetrics, Metric, MetricData},
    },
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};

/// Providers of its own, so that parallel tests share nothing.
pub(crate) struct Collector {
    pub(crate) meter_provider: SdkMeterProvider,
    pub(crate) tracer_provider: SdkTracerProvider,
    metrics: InMemoryMetricExporter,
    spans: InMemorySpanExporter,
}

/// A time series as it was exported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Counter(u64),
    UpDownCounter(i64),
    Gauge(f64),
    Histogram {
        count: u64,
        sum: f64,
        bounds: Vec<f64>,
    },
}

impl Collector {
    pub(crate) fn new() -> Self {
        let (metrics, spans) = (
            InMemoryMetricExporter::default(),
            InMemorySpanExporter::default(),
        );
        Self {
            meter_provider: SdkMeterProvider::builder()
                .with_periodic_exporter(metrics.clone())
                .build(),
            tracer_provider: SdkTracerProvider::builder()
                .with_simple_exporter(spans.clone())
                .build(),
            metrics,
            spans,
        }
    }

    /// All time series, as a scrape now would see them.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.metrics.reset();
        self.meter_provider.force_flush().unwrap();
        let exported = self.metrics.get_finished_metrics().unwrap();
        let scopes = exported
            .iter()
            .flat_map(|resource| resource.scope_metrics());
        scopes
            .flat_map(|scope| scope.metrics())
            .flat_map(points_of)
            .collect()
    }

    /// The names of all metrics, in order, without repetition.
    pub(crate) fn metric_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.points().into_iter().map(|point| point.name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The value of the time series with exactly these attributes.
    pub(crate) fn value(&self, name: &str, attributes: &[(&str, &str)]) -> Option<Value> {
        let wanted: BTreeMap<_, _> = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let points = self.points();
        points
            .into_iter()
            .find(|point| point.name == name && point.attributes == wanted)
            .map(|point| point.value)
    }

    /// The value of a counter, which must exist.
    pub(crate) fn count(&self, name: &str, attributes: &[(&str, &str)]) -> u64 {
        match self.value(name, attributes) {
            Some(Value::Counter(count)) => count,
            other => panic!("{name} {attributes:?} is {other:?} in {:#?}", self.points()),
        }
    }

    /// The number and the sum of a histogram's values, which must exist.
    pub(crate) fn histogram(&self, name: &str, attributes: &[(&str, &str)]) -> (u64, f64) {
        match self.value(name, attributes) {
            Some(Value::Histogram { count, sum, .. }) => (count, sum),
            other => panic!("{name} {attributes:?} is {other:?} in {:#?}", self.points()),
        }
    }

    /// All spans that have ended, in the order of their ends.
    pub(crate) fn spans(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().unwrap()
    }

    /// All ended spans with this name.
    pub(crate) fn spans_named(&self, name: &str) -> Vec<SpanData> {
        self.spans()
            .into_iter()
            .filter(|span| span.name == name)
            .collect()
    }

    /// The only ended span with this name.
    pub(crate) fn span(&self, name: &str) -> SpanData {
        let mut spans = self.spans_named(name);
        assert_eq!(
            spans.len(),
            1,
            "{name} in {:#?}",
            self.spans()
                .iter()
                .map(|span| &span.name)
                .collect::<Vec<_>>()
        );
        spans.remove(0)
    }
}

/// What can be asked of an exported span.
pub(crate) trait SpanExt {
    fn attributes(&self) -> BTreeMap<String, String>;
    fn is_root(&self) -> bool;
    fn is_child_of(&self, parent: &SpanData) -> bool;
    fn links_to(&self, other: &SpanData) -> bool;
    fn error(&self) -> Option<String>;
}

impl SpanExt for SpanData {
    fn attributes(&self) -> BTreeMap<String, String> {
        texts(self.attributes.iter())
    }

    fn is_root(&self) -> bool {
        self.parent_span_id == opentelemetry::trace::SpanId::INVALID
    }

    fn is_child_of(&self, parent: &SpanData) -> bool {
        self.parent_span_id == parent.span_context.span_id()
            && self.span_context.trace_id() == parent.span_context.trace_id()
    }

    fn links_to(&self, other: &SpanData) -> bool {
        let context = &other.span_context;
        self.links.iter().any(|link| {
            (link.span_context.trace_id(), link.span_context.span_id())
                == (context.trace_id(), context.span_id())
        })
    }

    fn error(&self) -> Option<String> {
        match &self.status {
            Status::Error { description } => Some(description.to_string()),
            Status::Ok | Status::Unset => None,
        }
    }
}

fn texts<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> BTreeMap<String, String> {
    attributes
        .map(|attribute| (attribute.key.to_string(), attribute.value.to_string()))
        .collect()
}

fn points_of(metric: &Metric) -> Vec<Point> {
    match metric.data() {
        AggregatedMetrics::F64(data) => points_in(metric, data, |sum, _| Value::Gauge(sum)),
        AggregatedMetrics::U64(data) => points_in(metric, data, |sum, is_monotonic| {
            assert!(is_monotonic, "{} is no up-down counter", metric.name());
            Value::Counter(sum)
        }),
        AggregatedMetrics::I64(data) => points_in(metric, data, |sum, is_monotonic| {
            assert!(!is_monotonic, "{} is an up-down counter", metric.name());
            Value::UpDownCounter(sum)
        }),
    }
}

fn points_in<T: Copy + ToString>(
    metric: &Metric,
    data: &MetricData<T>,
    sum_of: impl Fn(T, bool) -> Value,
) -> Vec<Point> {
    let number = |value: T| value.to_string().parse::<f64>().unwrap();
    let values: Vec<(BTreeMap<String, String>, Value)> = match data {
        MetricData::Gauge(gauge) => gauge
            .data_points()
            .map(|point| {
                (
                    texts(point.attributes()),
                    Value::Gauge(number(point.value())),
                )
            })
            .collect(),
        MetricData::Sum(sum) => sum
            .data_points()
            .map(|point| {
                (
                    texts(point.attributes()),
                    sum_of(point.value(), sum.is_monotonic()),
                )
            })
            .collect(),
        MetricData::Histogram(histogram) => histogram
            .data_points()
            .map(|point| {
                let (count, sum) = (point.count(), number(point.sum()));
                let bounds = point.bounds().collect();
                (
                    texts(point.attributes()),
                    Value::Histogram { count, sum, bounds },
                )
            })
            .collect(),
        MetricData::ExponentialHistogram(_) => {
            panic!("{} is an exponential histogram", metric.name())
        }
    };
    let (name, unit) = (metric.name().to_owned(), metric.unit().to_owned());
    values
        .into_iter()
        .map(|(attributes, value)| Point {
            name: name.clone(),
            unit: unit.clone(),
            attributes,
            value,
        })
        .collect()
}
