//! The intended start of each operation of an open loop, as a pure function of its number.

use std::f64::consts::TAU;
use std::fmt;
use std::time::Duration;

/// A rate, constant or swinging around a mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
    /// Operations a second, in the mean.
    rate: f64,
    swing: Option<Swing>,
}

/// A rate that follows the day: least at its beginning, most in its middle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Swing {
    /// How long a day takes.
    pub(crate) day: Duration,
    /// How much of the mean is added and taken away, under 1.
    pub(crate) share: f64,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a second", self.rate)?;
        match self.swing {
            Some(swing) => write!(f, ", more at noon, each day lasting {}", humantime::format_duration(swing.day)),
            None => Ok(()),
        }
    }
}

impl Schedule {
    pub(crate) fn even(rate: f64) -> Self {
        Self { rate, swing: None }
    }

    pub(crate) fn swinging(rate: f64, swing: Swing) -> Self {
        Self { rate, swing: Some(swing) }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// How many operations start within so long.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates times lengths of runs are far below"
    )]
    pub(crate) fn count(&self, length: Duration) -> u64 {
        self.started(length.as_secs_f64()).round() as u64
    }

    /// When the operation of this number, counted from 0, starts.
    #[expect(clippy::cast_precision_loss, reason = "2^52 operations are enough")]
    pub(crate) fn at(&self, number: u64) -> Duration {
        let number = number as f64;
        let even = number / self.rate;
        let Some(swing) = self.swing else { return Duration::from_secs_f64(even) };
        // `started` grows all the time and is never further from the even rate than a day's swing: halve until exact.
        let (mut low, mut high) = ((even - swing.day.as_secs_f64()).max(0.0), even + swing.day.as_secs_f64());
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if self.started(middle) < number {
                low = middle;
            } else {
                high = middle;
            }
        }
        Duration::from_secs_f64(high)
    }

    /// How many operations have started after so many seconds: the integral of the rate.
    fn started(&self, seconds: f64) -> f64 {
        let swung = self.swing.map_or(0.0, |Swing { day, share }| {
            let turn = TAU / day.as_secs_f64();
            share / turn * (turn * seconds).sin()
        });
        self.rate * (seconds - swung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_rate_is_even() {
        let schedule = Schedule::even(200.0);
        assert_eq!(schedule.count(Duration::from_secs(3)), 600);
        assert_eq!(schedule.at(0), Duration::ZERO);
        assert_eq!(schedule.at(600), Duration::from_secs(3));
    }

    #[test]
    fn a_day_has_as_many_operations_as_an_even_rate_but_most_of_them_at_noon() {
        let schedule = Schedule::swinging(100.0, Swing { day: Duration::from_mins(1), share: 0.8 });
        assert_eq!(schedule.count(Duration::from_mins(1)), 6_000);
        let started_between = |from: f64, to: f64| {
            (0..6_000).filter(|number| (from..to).contains(&schedule.at(*number).as_secs_f64())).count()
        };
        let (night, noon) = (started_between(0.0, 6.0), started_between(27.0, 33.0));
        assert!((130..180).contains(&night) && (1_040..1_100).contains(&noon), "night {night}, noon {noon}");
    }

    #[test]
    fn starts_never_go_back() {
        let schedule = Schedule::swinging(1_000.0, Swing { day: Duration::from_secs(2), share: 0.95 });
        let starts: Vec<Duration> = (0..5_000).map(|number| schedule.at(number)).collect();
        assert!(starts.is_sorted());
    }
}
