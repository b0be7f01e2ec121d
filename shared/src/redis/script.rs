//! Lua scripts: how they are named, sent and remembered by Redis.

use std::sync::{Arc, OnceLock};

use fred::{
    bytes_utils::Str,
    error::{Error, ErrorKind},
    types::{Value, scripts::Script as FredScript},
};
use tokio::time::Instant;

use super::{RedisError, connection::Connection, map::Nodes, node::Lane, slots::slot_of};

/// A Lua script. Its header says its KEYS, ARGV, reply and the invariant that it keeps; one function of ours calls it.
pub struct Script {
    name: &'static str,
    is_storing: bool,
    parts: &'static [&'static str],
    whole: OnceLock<(Str, FredScript)>,
}

impl Script {
    /// The script whose text is these parts, one after the other; `name` is for metrics and errors. It runs also when Redis's
    /// memory is full: sessions must still be refreshed and ended then.
    pub const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, is_storing: false, parts, whole: OnceLock::new() }
    }

    /// One that stores what users like, as much as they like. When Redis's memory is full it is refused.
    pub const fn storing(name: &'static str, parts: &'static [&'static str]) -> Self {
        Self { name, is_storing: true, parts, whole: OnceLock::new() }
    }

    /// The error for a reply that the script never gives.
    pub fn unexpected_reply(&self) -> RedisError {
        RedisError::Reply(self.name)
    }

    pub(super) fn is_storing(&self) -> bool {
        self.is_storing
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Runs it by its hash, which Redis knows from the second time on, and tells through which connection.
    pub(super) async fn evaluate(
        &self,
        (nodes, lane): (&Nodes, Lane),
        keys: &[String],
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<(Arc<Connection>, Value), RedisError> {
        let slot = keys.first().map_or(0, |key| slot_of(key));
        let mut call = Vec::with_capacity(2 + keys.len() + arguments.len());
        call.push(Value::from(self.sha1()));
        call.push(Value::from(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
        call.extend(keys.iter().map(|key| Value::from(key.as_str())));
        call.extend(arguments);
        match nodes.call(lane, slot, "EVALSHA", &call, until).await {
            // Redis has not seen this script since it started; EVAL runs it and remembers it.
            Err(RedisError::Command(error)) if is_unknown(&error) => {
                call[0] = Value::from(self.lua());
                nodes.call(lane, slot, "EVAL", &call, until).await
            }
            result => result,
        }
    }

    fn whole(&self) -> &(Str, FredScript) {
        self.whole.get_or_init(|| {
            let header = if self.is_storing { "" } else { "#!lua flags=allow-oom\n" };
            let lua = Str::from(header.to_owned() + &self.parts.concat());
            (lua.clone(), FredScript::from_lua(lua))
        })
    }

    fn lua(&self) -> Str {
        self.whole().0.clone()
    }

    fn sha1(&self) -> Str {
        self.whole().1.sha1().clone()
    }
}

fn is_unknown(error: &Error) -> bool {
    error.kind() == &ErrorKind::Unknown && error.details().starts_with("NOSCRIPT")
}
