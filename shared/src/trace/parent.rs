//! What a span's children know of it, here and on other replicas: W3C Trace Context, version 00.

use std::fmt;

use http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// A span that others may continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: TraceId,
    span: SpanId,
    is_sampled: bool,
    is_remote: bool,
}

impl Parent {
    const TRACEPARENT: &str = "traceparent";

    /// The proxy's. Its own span is recorded nowhere, and it leaves open whether the trace is.
    pub(super) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(Self::TRACEPARENT).iter();
        let (Some(only), None) = (given.next(), given.next()) else { return None };
        Self::parse(only.to_str().ok()?)
    }

    /// Reads `00-<trace>-<span>-<flags>`. Nothing else begins a trace: it would have a name that somebody made up.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let part = |range: std::ops::Range<usize>| text.get(range).filter(is_hex);
        if text.len() != 55
            || !text.starts_with("00-")
            || text.get(35..36) != Some("-")
            || text.get(52..53) != Some("-")
        {
            return None;
        }
        let trace = TraceId::from_hex(part(3..35)?).ok().filter(|id| *id != TraceId::INVALID)?;
        let span = SpanId::from_hex(part(36..52)?).ok().filter(|id| *id != SpanId::INVALID)?;
        let flags = u8::from_str_radix(part(53..55)?, 16).ok()?;
        Some(Self { trace, span, is_sampled: flags & 1 == 1, is_remote: true })
    }
}

/// As it is passed on.
impl fmt::Display for Parent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{}-{}-0{}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

impl Parent {
    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }
}

impl From<&SpanContext> for Parent {
    fn from(span: &SpanContext) -> Self {
        Self {
            trace: span.trace_id(),
            span: span.span_id(),
            is_sampled: span.is_sampled(),
            is_remote: span.is_remote(),
        }
    }
}

impl From<Parent> for SpanContext {
    fn from(parent: Parent) -> Self {
        let flags = TraceFlags::default().with_sampled(parent.is_sampled);
        Self::new(parent.trace, parent.span, flags, parent.is_remote, TraceState::default())
    }
}
