//! Values of metrics as lines.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        Temporality,
        data::{AggregatedMetrics, HistogramDataPoint, Metric, MetricData, ResourceMetrics},
        exporter::PushMetricExporter,
    },
};
use serde::Serialize;

use super::{
    attributes::{Attributes, member},
    json_lines::JsonLines,
};

/// Writes the value of every metric, as often as a reader asks for it.
#[derive(Debug)]
pub(super) struct MetricLines(pub(super) Arc<JsonLines>);

impl PushMetricExporter for MetricLines {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            match metric.data() {
                AggregatedMetrics::F64(data) => self.write(metric, data),
                AggregatedMetrics::U64(data) => self.write(metric, data),
                AggregatedMetrics::I64(data) => self.write(metric, data),
            }
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

/// The value of one metric with one set of attributes.
#[derive(Serialize)]
struct MetricLine<'a, T> {
    at: DateTime<Utc>,
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
    attributes: Attributes<'a>,
    #[serde(flatten)]
    value: Value<T>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<T> {
    Number {
        value: T,
    },
    Distribution {
        count: u64,
        sum: T,
        min: Option<T>,
        max: Option<T>,
        buckets: Vec<Bucket>,
    },
}

/// How many values were at most `up_to`, and above the bucket before; the last has no bound.
#[derive(Serialize)]
struct Bucket {
    up_to: Option<f64>,
    count: u64,
}

impl MetricLines {
    fn write<T: Serialize + Copy>(&self, metric: &Metric, data: &MetricData<T>) {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().for_each(|point| {
                self.line(
                    metric,
                    "gauge",
                    gauge.time(),
                    point.attributes(),
                    Value::Number {
                        value: point.value(),
                    },
                );
            }),
            MetricData::Sum(sum) => {
                let kind = if sum.is_monotonic() {
                    "counter"
                } else {
                    "up-down counter"
                };
                sum.data_points().for_each(|point| {
                    self.line(
                        metric,
                        kind,
                        sum.time(),
                        point.attributes(),
                        Value::Number {
                            value: point.value(),
                        },
                    );
                });
            }
            MetricData::Histogram(histogram) => histogram.data_points().for_each(|point| {
                self.line(
                    metric,
                    "histogram",
                    histogram.time(),
                    point.attributes(),
                    distribution(point),
                );
            }),
            // Nobody makes them unless a view asks for them, and the demo has no views.
            MetricData::ExponentialHistogram(_) => {}
        }
    }

    fn line<'a, T: Serialize>(
        &self,
        metric: &'a Metric,
        kind: &'static str,
        at: SystemTime,
        attributes: impl Iterator<Item = &'a KeyValue>,
        value: Value<T>,
    ) {
        self.0.write(&MetricLine {
            at: at.into(),
            name: metric.name(),
            kind,
            unit: metric.unit(),
            attributes: attributes.map(member).collect(),
            value,
        });
    }
}

fn distribution<T: Copy>(point: &HistogramDataPoint<T>) -> Value<T> {
    let bounds = point.bounds().map(Some).chain([None]);
    Value::Distribution {
        count: point.count(),
        sum: point.sum(),
        min: point.min(),
        max: point.max(),
        buckets: bounds
            .zip(point.bucket_counts())
            .map(|(up_to, count)| Bucket { up_to, count })
            .collect(),
    }
}
