//! How much of what users say is on its way to Redis. What was given up stays in memory until Redis is back, so that there
//! must be an end to it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{RedisError, Value};

/// The most that may be under way and given up together, in bytes.
const MOST: usize = 16 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Bytes>);

#[derive(Default)]
struct Bytes {
    awaited: usize,
    given_up: usize,
}

impl UnderWay {
    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that sends so much, unless there is too much already. Then it goes on with one at a time, which finds out
    /// whether Redis is back.
    pub(super) async fn around<R>(
        &self,
        size: usize,
        call: impl Future<Output = Result<R, RedisError>>,
    ) -> Result<R, RedisError> {
        let sending = self.begin(size)?;
        let result = call.await;
        if result.is_ok() {
            sending.answered();
        }
        result
    }

    fn begin(&self, size: usize) -> Result<Sending<'_>, RedisError> {
        let mut bytes = self.bytes();
        if bytes.awaited > 0 && bytes.awaited + bytes.given_up + size > MOST {
            return Err(RedisError::TooMuch);
        }
        bytes.awaited += size;
        Ok(Sending { under_way: self, size, is_answered: false })
    }
}

/// Something that was sent, until it is answered or given up.
struct Sending<'a> {
    under_way: &'a UnderWay,
    size: usize,
    is_answered: bool,
}

impl Sending<'_> {
    /// Redis answered, and so has dealt with whatever was sent before.
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut bytes = self.under_way.bytes();
        bytes.awaited -= self.size;
        bytes.given_up = if self.is_answered { 0 } else { bytes.given_up + self.size };
    }
}

/// What the arguments of a script take.
pub(super) fn size(arguments: &[Value]) -> usize {
    arguments.iter().map(|argument| argument.as_bytes().map_or(8, <[u8]>::len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_counts_until_redis_answers_something() {
        let under_way = UnderWay::default();
        let first = under_way.begin(MOST / 2).expect("a place");
        drop(under_way.begin(MOST / 2).expect("a place"));
        assert!(under_way.begin(1).is_err(), "half is awaited and half was given up");
        first.answered();
        let all = under_way.begin(MOST).expect("a place");
        assert!(under_way.begin(1).is_err());
        drop(all);
        let probe = under_way.begin(1).expect("one at a time");
        assert!(under_way.begin(1).is_err());
        probe.answered();
        assert!(under_way.begin(MOST).is_ok());
    }
}
