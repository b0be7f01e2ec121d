//! Reading the streams of the log: all that was ever revoked and still matters, page by page.

use std::collections::HashMap;

use super::{entry::Entry, held::Expected};
use crate::redis::{Redis, RedisError, StreamId, Value, keys};

/// Entries asked for with one call, about 1 MB: the partitions that are not read to their end share them.
const AT_ONCE: usize = 6400;

/// What one command read of a partition.
#[derive(Default)]
pub(super) struct Page {
    /// Those that can be read.
    pub(super) entries: Vec<Entry>,
    /// The first id, of whatever that is.
    pub(super) first: Option<StreamId>,
    /// The last one, behind which there may be more.
    pub(super) last: Option<StreamId>,
    /// There is no more.
    pub(super) is_end: bool,
}

/// Reads the next page of some partitions, each as far as it can be reached. The call has a deadline of its own: a log may be
/// too long for one.
pub(super) async fn pages(redis: &Redis, expected: &[(usize, Expected)]) -> Vec<Result<Page, RedisError>> {
    // A page begins with an entry that is known: there must be room for another one.
    let size = (AT_ONCE / expected.len().max(1)).max(2);
    let reads = expected.iter().map(|(partition, expected)| command(*partition, expected.from, size)).collect();
    let replies = redis.pipeline::<Value>("read_revocations", reads, redis.deadline()).await;
    replies.into_iter().map(|reply| Page::parse(reply?, size)).collect()
}

fn command(partition: usize, from: StreamId, size: usize) -> (&'static str, String, Vec<Value>) {
    let count = i64::try_from(size).unwrap_or(i64::MAX);
    let arguments = vec![from.to_string().into(), "+".into(), "COUNT".into(), count.into()];
    ("XRANGE", keys::revocations_of(partition), arguments)
}

impl Page {
    fn parse(reply: Value, size: usize) -> Result<Self, RedisError> {
        let lines: Vec<(String, HashMap<String, String>)> = reply.convert()?;
        let id_of = |line: Option<&(String, HashMap<String, String>)>| line.and_then(|(id, _)| id.parse().ok());
        // What cannot be read was written by a version that knows more; there is nothing that this one could do with it.
        let entries = lines.iter().filter_map(|(id, fields)| Entry::from_stream(id, fields)).collect();
        Ok(Self { entries, first: id_of(lines.first()), last: id_of(lines.last()), is_end: lines.len() < size })
    }
}
