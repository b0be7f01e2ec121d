//! Work that is done within a span.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::task_local;

use super::Parent;

task_local! {
    /// The span of what this task does right now, where that is traced.
    static CURRENT: Parent;
}

pin_project! {
    /// See [`super::Span::around`]. Boxes nothing, and costs a branch when nothing is traced.
    pub struct InSpan<F> {
        span: Option<Parent>,
        #[pin]
        work: F,
    }
}

impl<F> InSpan<F> {
    pub(super) fn new(span: Option<Parent>, work: F) -> Self {
        Self { span, work }
    }
}

impl<F: Future> Future for InSpan<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match *this.span {
            None => this.work.poll(context),
            Some(span) => CURRENT.sync_scope(span, || this.work.poll(context)),
        }
    }
}

impl Parent {
    /// The span within which this is called.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|span| *span).ok()
    }

    /// Does `work` within a span that is held, or was held, elsewhere.
    pub fn around<F: Future>(this: Option<Self>, work: F) -> InSpan<F> {
        InSpan::new(this, work)
    }
}
