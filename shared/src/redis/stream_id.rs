//! The ids of entries of streams.

use std::{fmt, str::FromStr};

/// The id of an entry of a stream: milliseconds since 1970, and a number within them. Later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64, pub u64);

impl StreamId {
    /// Less than all others.
    pub const ZERO: Self = Self(0, 0);
}

impl FromStr for StreamId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        /// What Lua can count.
        const MAX: u64 = 1 << 53;
        let number = |digits: &str| {
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|number| is_plain && *number <= MAX).ok_or(())
        };
        let (milliseconds, sequence) = text.split_once('-').ok_or(())?;
        Ok(Self(number(milliseconds)?, number(sequence)?))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_ordered_as_numbers() {
        let id = |text: &str| text.parse::<StreamId>().unwrap();
        assert!(id("9-1") < id("10-0") && id("10-9") < id("10-10"));
        assert_eq!(id("10-9").to_string(), "10-9");
    }
}
