//! When something is tried again: each pause twice as long as the one before, with jitter, so
//! that many senders do not come back at once.

use std::time::Duration;

use rand::RngExt;

/// How often and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries at most, the first included.
    pub tries: u32,
    /// The first pause, before jitter.
    pub first: Duration,
    /// The longest pause, also when the other side asks for a longer one.
    pub longest: Duration,
}

impl Default for Retry {
    /// Ten tries within about half an hour.
    fn default() -> Self {
        Self { tries: 10, first: Duration::from_secs(5), longest: Duration::from_secs(900) }
    }
}

impl Retry {
    /// The pause after the try number `tried` (from 1), or `None` when it was the last one.
    /// `asked` is what the other side asked for.
    pub fn pause(&self, tried: u32, asked: Option<Duration>) -> Option<Duration> {
        // Between a half and the whole.
        let share = rand::rng().random_range(0.5..=1.0);
        self.pause_with(tried, asked, share)
    }

    fn pause_with(&self, tried: u32, asked: Option<Duration>, share: f64) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1)));
        let pause = doubled.min(self.longest).mul_f64(share);
        Some(pause.max(asked.unwrap_or_default()).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let retry =
            Retry { tries: 6, first: Duration::from_secs(5), longest: Duration::from_secs(30) };
        let s = |seconds| Some(Duration::from_secs(seconds));
        for (tried, asked, share, expected) in [
            (1, None, 1.0, s(5)),
            (2, None, 1.0, s(10)),
            (3, None, 1.0, s(20)),
            (4, None, 1.0, s(30)),
            (5, None, 0.5, s(15)),
            (2, s(7), 0.5, s(7)),
            (2, s(3), 0.5, s(5)),
            (1, s(3600), 1.0, s(30)),
            (6, None, 1.0, None),
            (6, s(1), 1.0, None),
            (u32::MAX, None, 1.0, None),
        ] {
            assert_eq!(retry.pause_with(tried, asked, share), expected, "{tried} {asked:?}");
        }
        for _ in 0..100 {
            let pause = retry.pause(1, None).expect("another try");
            assert!((2500..=5000).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
