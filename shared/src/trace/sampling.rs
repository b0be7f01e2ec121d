//! Which traces are recorded. It is decided where a trace enters the cluster, and holds for all of it.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanKind, TraceContextExt, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};

use super::{TraceConfig, config::SamplerName};

/// Decides where traces begin, and follows that everywhere else. What depends on the ratio depends on the trace's id
/// alone, so that replicas agree.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    root: Sampler,
    follows_remote: bool,
}

impl Roots {
    pub(super) fn new(config: &TraceConfig) -> Self {
        let ratio = Sampler::TraceIdRatioBased(config.sampler_arg.0);
        let (root, follows_remote) = match config.sampler {
            SamplerName::AlwaysOn => (Sampler::AlwaysOn, false),
            SamplerName::AlwaysOff => (Sampler::AlwaysOff, false),
            SamplerName::TraceIdRatio => (ratio, false),
            SamplerName::ParentBasedAlwaysOn => (Sampler::AlwaysOn, true),
            SamplerName::ParentBasedAlwaysOff => (Sampler::AlwaysOff, true),
            SamplerName::ParentBasedTraceIdRatio => (ratio, true),
        };
        Self { root, follows_remote }
    }
}

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parent = parent.map(|context| context.span().span_context().clone()).filter(SpanContext::is_valid);
        // Nothing becomes a parent here that is not recorded. From elsewhere, "not sampled" only says that whoever was
        // there before, which is a proxy, has recorded nothing itself.
        let is_decided = parent.is_some_and(|span| !span.is_remote() || (self.follows_remote && span.is_sampled()));
        if is_decided {
            let decision = SamplingDecision::RecordAndSample;
            return SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() };
        }
        self.root.should_sample(None, trace_id, name, kind, attributes, links)
    }
}
