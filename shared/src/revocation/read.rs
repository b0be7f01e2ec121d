//! Reading the streams of the log: all that was ever revoked and still matters.

use std::collections::HashMap;

use fred::types::{CustomCommand, Value};
use tokio::time::Instant;

use super::{
    entry::{Entry, StreamId},
    held::Expected,
};
use crate::redis::{Redis, RedisError, keys};

/// Entries read from a partition at once.
const PAGE: usize = 1000;

/// The entries of a partition, from where reading it began.
pub(super) type Read = Vec<Entry>;

/// Reads every partition from where its last read ended.
pub(super) async fn all(redis: &Redis, expected: &[Expected], until: Instant) -> Result<Vec<Read>, RedisError> {
    let streams = keys::all_revocations();
    let reads = streams.iter().zip(expected).map(|(stream, expected)| command(stream, expected.from)).collect();
    let pages: Vec<Value> = redis.pipeline("read_revocations", reads, until).await?;
    let mut all = Vec::with_capacity(streams.len());
    for (stream, page) in streams.iter().zip(pages) {
        all.push(to_the_end(redis, stream, Page::parse(page)?, until).await?);
    }
    Ok(all)
}

async fn to_the_end(redis: &Redis, stream: &str, mut page: Page, until: Instant) -> Result<Read, RedisError> {
    let mut read = page.entries;
    while let Some(next) = page.next {
        let mut replies: Vec<Value> = redis.pipeline("read_revocations", vec![command(stream, next)], until).await?;
        page = Page::parse(replies.pop().unwrap_or(Value::Null))?;
        read.append(&mut page.entries);
    }
    Ok(read)
}

fn command(stream: &str, from: StreamId) -> (CustomCommand, Vec<Value>) {
    const XRANGE: CustomCommand = super::command("XRANGE");
    let count = i64::try_from(PAGE).unwrap_or(i64::MAX);
    (XRANGE, vec![stream.into(), from.to_string().into(), "+".into(), "COUNT".into(), count.into()])
}

/// What one command read.
struct Page {
    entries: Vec<Entry>,
    /// Where there may be more.
    next: Option<StreamId>,
}

impl Page {
    fn parse(reply: Value) -> Result<Self, RedisError> {
        let lines: Vec<(String, HashMap<String, String>)> = reply.convert()?;
        let last = lines.last().filter(|_| lines.len() == PAGE).and_then(|(id, _)| id.parse::<StreamId>().ok());
        // What cannot be read was written by a version that knows more; there is nothing that this one could do with it.
        let entries = lines.iter().filter_map(|(id, fields)| Entry::from_stream(id, fields)).collect();
        Ok(Self { entries, next: last.map(StreamId::next) })
    }
}
