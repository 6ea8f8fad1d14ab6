//! How often somebody may ask: token buckets in tables that can't grow without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Buckets of one kind, one for each key.
#[derive(Debug)]
pub struct Buckets<K> {
    burst: f64,
    refill: Duration,
    capacity: usize,
    buckets: HashMap<K, (f64, Instant)>,
}

/// Nothing is left: ask again after this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// How long to wait.
    pub retry_after: Duration,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets that hold `burst` requests and get one back in each `refill`; at most `capacity` of them.
    #[must_use]
    pub fn new(burst: u32, refill: Duration, capacity: usize) -> Self {
        Self {
            burst: f64::from(burst),
            refill: refill.max(Duration::from_nanos(1)),
            capacity,
            buckets: HashMap::new(),
        }
    }

    /// Takes one request out of the key's bucket.
    ///
    /// # Errors
    /// [`TooOften`]: it is empty, or there are too many keys.
    ///
    /// # Cost
    /// When the table is full, one pass over it: full buckets say nothing and go.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), TooOften> {
        if self.buckets.len() >= self.capacity && !self.buckets.contains_key(&key) {
            let (burst, refill) = (self.burst, self.refill);
            self.buckets
                .retain(|_, bucket| level(*bucket, burst, refill, now) < burst);
            if self.buckets.len() >= self.capacity {
                return Err(TooOften {
                    retry_after: self.refill,
                });
            }
        }
        let bucket = self.buckets.entry(key).or_insert((self.burst, now));
        let left = level(*bucket, self.burst, self.refill, now);
        if left < 1.0 {
            *bucket = (left, now);
            let retry_after = self.refill.mul_f64(1.0 - left);
            return Err(TooOften { retry_after });
        }
        *bucket = (left - 1.0, now);
        Ok(())
    }
}

fn level((left, at): (f64, Instant), burst: f64, refill: Duration, now: Instant) -> f64 {
    let passed = now.saturating_duration_since(at);
    (left + passed.as_secs_f64() / refill.as_secs_f64()).min(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_pace_and_never_more_keys_than_room() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut buckets = Buckets::new(2, Duration::from_millis(100), 2);
        for (name, key, millis, taken) in [
            ("first", 'a', 0, true),
            ("second", 'a', 0, true),
            ("third", 'a', 0, false),
            ("another key", 'b', 0, true),
            ("no room", 'c', 0, false),
            ("not yet", 'a', 90, false),
            ("again", 'a', 200, true),
            ("b is full and makes room", 'c', 200, true),
        ] {
            assert_eq!(buckets.take(key, at(millis)).is_ok(), taken, "{name}");
        }
    }
}
