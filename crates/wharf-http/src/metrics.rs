//! `/metrics`: what the faces count, and what the registry counts, in the text format of OpenMetrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry as Prometheus;
use wharf_registry::Registry;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which face served a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Face {
    /// OCI Distribution.
    Oci,
    /// ECR's JSON API.
    Ecr,
    /// KMS's JSON API.
    Kms,
    /// IAM's and STS's query APIs.
    Query,
    /// wharf's own JSON API.
    Wharf,
    /// Signed downloads, health and metrics.
    Other,
}

impl Face {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::Ecr => "ecr",
            Self::Kms => "kms",
            Self::Query => "query",
            Self::Wharf => "wharf",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    face: &'static str,
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    face: &'static str,
    operation: &'static str,
}

/// The counters of the faces.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    latencies: Family<OperationLabels, Histogram>,
    in_flight: Gauge,
    throttled: Counter,
    audit_lost: Counter,
    registry: Prometheus,
}

impl Metrics {
    /// Fresh counters; `registry`'s own are read whenever somebody asks.
    pub fn new(registry: &Registry) -> Self {
        let requests = Family::default();
        // 0.5 ms to 32 s.
        let latencies = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.0005, 2.0, 17))) as fn() -> _,
        );
        let (in_flight, throttled, audit_lost) = (Gauge::default(), Counter::default(), Counter::default());
        let mut prometheus = Prometheus::with_prefix("wharf");
        prometheus.register("requests", "Requests answered", requests.clone());
        prometheus.register(
            "request_duration_seconds",
            "Time from a request's head to its response's head",
            latencies.clone(),
        );
        prometheus.register("requests_in_flight", "Requests being answered", in_flight.clone());
        prometheus.register(
            "requests_throttled",
            "Requests refused because of their rate",
            throttled.clone(),
        );
        prometheus.register(
            "audit_records_lost",
            "Audit records that could not be written",
            audit_lost.clone(),
        );
        prometheus.register_collector(Box::new(RegistryCounters(registry.clone())));
        Self { requests, latencies, in_flight, throttled, audit_lost, registry: prometheus }
    }

    /// Counts one request. `operation` comes from a table, never from a client.
    pub fn request(&self, face: Face, operation: &'static str, status: u16, took: Duration) {
        let face = face.as_str();
        self.requests.get_or_create(&RequestLabels { face, operation, status }).inc();
        self.latencies.get_or_create(&OperationLabels { face, operation }).observe(took.as_secs_f64());
    }

    /// Counts a request that was refused because of its rate.
    pub fn throttled(&self) {
        self.throttled.inc();
    }

    /// The counter of audit records that could not be written.
    pub fn audit_lost(&self) -> Counter {
        self.audit_lost.clone()
    }

    /// A request begins; it ends when the mark is dropped.
    pub fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Everything as text of the type [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A request being answered.
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The registry's own counters.
struct RegistryCounters(Registry);

impl std::fmt::Debug for RegistryCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryCounters")
    }
}

impl Collector for RegistryCounters {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let stats = self.0.stats();
        // The prefix is the encoder's business, as it is for the faces' own counters.
        let mut count = |name: &str, help: &str, value: &AtomicU64| {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("blob_received_bytes", "Blob content accepted", &stats.bytes_in)?;
        count("blob_sent_bytes", "Blob content served", &stats.bytes_out)?;
        count("uploads_started", "Uploads started", &stats.uploads_started)?;
        count("uploads_finished", "Uploads finished", &stats.uploads_finished)?;
        count("store_errors", "Errors of the metadata store or the object store", &stats.store_errors)?;
        count("objects_collected", "Objects removed by the collector", &stats.objects_collected)?;
        count("collected_bytes", "Bytes removed by the collector", &stats.bytes_collected)?;
        count("objects_quarantined", "Objects found damaged", &stats.objects_quarantined)
    }
}
