//! The settings of traces: the standard's own names, as far as they mean something here.

use std::{fmt, str::FromStr};

use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use percent_encoding::percent_decode_str;
use uuid::Uuid;

/// Traces. Empty is the same as not set.
#[derive(Args, Clone, Debug)]
pub struct TraceConfig {
    /// Collector that traces are sent to by OTLP over HTTP, e.g. http://collector:4318; without it nothing is traced
    #[arg(
        long = "otel-exporter-otlp-endpoint",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub endpoint: Endpoint,
    /// Headers for the collector, such as its key: name=value, separated by commas, escaped as in URLs
    #[arg(
        long = "otel-exporter-otlp-headers",
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub headers: ExportHeaders,
    /// What this replica is called in traces; without it, gatefold-api or gatefold-ws
    #[arg(long = "otel-service-name", env = "OTEL_SERVICE_NAME", default_value = "", hide_default_value = true)]
    pub service_name: String,
    /// What else all traces say of this replica: name=value, separated by commas, escaped as in URLs
    #[arg(
        long = "otel-resource-attributes",
        env = "OTEL_RESOURCE_ATTRIBUTES",
        default_value = "",
        hide_default_value = true
    )]
    pub resource_attributes: Pairs,
    /// Which traces are recorded
    #[arg(
        long = "otel-traces-sampler",
        env = "OTEL_TRACES_SAMPLER",
        value_enum,
        default_value = "parentbased_always_on",
        ignore_case = true
    )]
    pub sampler: SamplerName,
    /// Of how many traces one is recorded, for the samplers by ratio: 0 none, 0.01 one in a hundred, 1 all
    #[arg(long = "otel-traces-sampler-arg", env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1")]
    pub sampler_arg: Ratio,
}

/// See `OTEL_TRACES_SAMPLER` of the OpenTelemetry specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SamplerName {
    /// All traces.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Some, by the trace's id.
    #[value(name = "traceidratio")]
    TraceIdRatio,
    /// All, and what others decided to record.
    #[value(name = "parentbased_always_on")]
    ParentBasedAlwaysOn,
    /// None but what others decided to record.
    #[value(name = "parentbased_always_off")]
    ParentBasedAlwaysOff,
    /// Some, and what others decided to record.
    #[value(name = "parentbased_traceidratio")]
    ParentBasedTraceIdRatio,
}

impl TraceConfig {
    /// What every trace says of this process.
    pub(super) fn resource(&self, service: &'static str) -> Resource {
        let ours = [
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ];
        let given = self.resource_attributes.0.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let resource = Resource::builder_empty().with_attributes(ours).with_attributes(given);
        // The name of its own is stronger than one among the attributes.
        let name = Some(self.service_name.clone()).filter(|name| !name.is_empty());
        resource.with_attributes(name.map(|name| KeyValue::new("service.name", name))).build()
    }
}

/// Where a collector listens.
#[derive(Clone, Debug)]
pub struct Endpoint(Option<Uri>);

impl Endpoint {
    /// Where it takes traces.
    pub(super) fn traces(&self) -> Option<Uri> {
        self.0.clone()
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "must be http://host:port or https://host:port, perhaps with a path";
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let uri: Uri = text.parse().map_err(|_| SHAPE)?;
        let authority = uri.authority().ok_or(SHAPE)?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return Err(SHAPE);
        }
        if authority.as_str().contains('@') {
            return Err("must not hold a password: it belongs into OTEL_EXPORTER_OTLP_HEADERS");
        }
        let traces = format!("{}/v1/traces", text.trim_end_matches('/'));
        Ok(Self(Some(traces.parse().map_err(|_| SHAPE)?)))
    }
}

/// Names and values.
#[derive(Clone, Debug, Default)]
pub struct Pairs(Vec<(String, String)>);

impl FromStr for Pairs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "must be name=value, separated by commas, escaped as in URLs";
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').ok_or(SHAPE)?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| SHAPE)?;
            if name.trim().is_empty() { Err(SHAPE) } else { Ok((name.trim().to_owned(), value.into_owned())) }
        };
        text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect::<Result<_, _>>().map(Self)
    }
}

/// What is sent to the collector with every batch; it may be a secret, and is never shown.
#[derive(Clone, Default)]
pub struct ExportHeaders(Vec<(HeaderName, HeaderValue)>);

impl ExportHeaders {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

impl fmt::Debug for ExportHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} headers", self.0.len())
    }
}

impl FromStr for ExportHeaders {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let header = |(name, value): (String, String)| {
            let name = name.parse().map_err(|_| "has a name that no header can have")?;
            let mut value = HeaderValue::try_from(value).map_err(|_| "has a value that no header can have")?;
            value.set_sensitive(true);
            Ok((name, value))
        };
        text.parse::<Pairs>()?.0.into_iter().map(header).collect::<Result<_, _>>().map(Self)
    }
}

/// A part of one.
#[derive(Clone, Copy, Debug)]
pub struct Ratio(pub(super) f64);

impl FromStr for Ratio {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let ratio = if text.is_empty() { Ok(1.0) } else { text.parse() };
        ratio.ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Self).ok_or("must be 0 to 1, such as 0.01")
    }
}
