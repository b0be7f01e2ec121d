//! A limit, as it is configured, and the script that counts against it.

use std::{num::NonZero, str::FromStr, time::Duration};

use crate::{config::duration, redis::Script};

/// Counts against a limit; see its header.
pub static GCRA: Script = Script::new("gcra", &[include_str!("limit/gcra.lua")]);

/// The largest burst: four times as much, as the fence in memory allows, must be a `u32`.
const MAX_BURST: u32 = 1_000_000_000;
/// The longest time after which a limit is as if nothing had happened. Redis counts microseconds since 1970 in floating
/// point, exactly for two more centuries; this leaves them to it.
const MAX_RECOVERY: Duration = Duration::from_hours(30 * 24);

/// So many in a period, evenly, and `burst` of them at once: `30/1m:10`. Without a burst all may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    count: u64,
    seconds: u64,
    burst: u32,
    interval: NonZero<u64>,
}

impl Limit {
    /// How many in [`Self::seconds`].
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The period.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// How many at once, after a while of none.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time after which there may be one more, in whole microseconds: rounded up, so that nothing is let through that
    /// should not.
    pub fn interval_micros(&self) -> u64 {
        self.interval.get()
    }

    /// The same in general.
    pub fn interval(&self) -> Duration {
        Duration::from_micros(self.interval.get())
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || "expected count/period or count/period:burst, such as 30/1m:10".to_owned();
        let (count, rest) = text.trim().split_once('/').ok_or_else(malformed)?;
        let (period, burst) = rest.split_once(':').map_or((rest, None), |(period, burst)| (period, Some(burst)));
        let count: u64 = count.parse().map_err(|_| malformed())?;
        let burst: u64 = burst.map_or(Ok(count), str::parse).map_err(|_| malformed())?;
        let period = duration(period)?;
        if period.is_zero() || period.subsec_nanos() != 0 {
            return Err("the period must be whole seconds".to_owned());
        }
        let burst = u32::try_from(burst).ok().filter(|burst| (1..=MAX_BURST).contains(burst));
        let burst = burst.ok_or_else(|| format!("the burst must be 1 to {MAX_BURST}"))?;
        let micros = u64::try_from(period.as_micros()).map_err(|_| malformed())?;
        if !(1..=micros).contains(&count) {
            return Err("the count must be at least 1, and at most 1000000 a second".to_owned());
        }
        let interval = NonZero::new(micros.div_ceil(count)).ok_or_else(malformed)?;
        if u128::from(interval.get()) * u128::from(burst) > MAX_RECOVERY.as_micros() {
            return Err("the burst must be allowed again within 30 days".to_owned());
        }
        Ok(Self { count, seconds: period.as_secs(), burst, interval })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    #[test]
    fn a_limit_is_a_count_in_a_period_and_a_burst_that_is_the_count_unless_given() {
        let login = limit("30/1m:10");
        assert_eq!((login.count(), login.seconds(), login.burst()), (30, 60, 10));
        assert_eq!(login.interval(), Duration::from_secs(2));
        assert_eq!(limit("10/15m"), limit("10/900:10"));
        assert_eq!(limit("1000000/1s").interval_micros(), 1);
        assert_eq!(limit("7/1m").interval_micros(), 8_571_429);
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "30",
            "30/",
            "/1m",
            "0/1m",
            "-1/1m",
            "30/0",
            "30/500ms",
            "30/1m:0",
            "30/1m:",
            "30/1m:x",
            "30/1m:1000000001",
            "1000001/1s",
            "1/31d",
            "30 /1m",
            "18446744073709551616/1s",
            "1/18446744073709551615",
            "1/1d:31",
        ] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_a_limit_that_cannot_be_counted(text in "[0-9]{0,22}/[0-9]{0,22}[smhd]?(:[0-9]{0,12})?") {
            if let Ok(limit) = text.parse::<Limit>() {
                let recovery = u128::from(limit.interval_micros()) * u128::from(limit.burst());
                prop_assert!(limit.burst() >= 1 && (1..=MAX_RECOVERY.as_micros()).contains(&recovery));
            }
        }
    }
}
