//! Request rates: a token bucket for each action, account and region, and a smaller one for each principal.
//!
//! Off unless enabled. ECR's answers: `ThrottlingException` "Rate exceeded" on the JSON API, `429 TOOMANYREQUESTS`
//! with `Retry-After` on the OCI one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wharf_types::RegistryRef;

use crate::config::ThrottleConfig;

/// With more buckets than this, those that are full again are forgotten.
const MANY: usize = 10_000;

/// The buckets. Calls of actions without a rate pass untouched.
pub struct Throttle {
    config: ThrottleConfig,
    hasher: RandomState,
    buckets: Mutex<HashMap<u64, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    rate: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Throttle {
    /// Buckets that are full.
    pub fn new(config: ThrottleConfig) -> Self {
        Self { config, hasher: RandomState::new(), buckets: Mutex::default() }
    }

    /// Takes one call of `action` (`PutImage`, without its prefix).
    ///
    /// # Errors
    /// The time after which the call may pass.
    pub fn take(&self, registry: &RegistryRef, principal: &str, action: &str) -> Result<(), Duration> {
        if !self.config.enabled {
            return Ok(());
        }
        self.take_at(registry, principal, action, Instant::now())
    }

    fn take_at(
        &self,
        registry: &RegistryRef,
        principal: &str,
        action: &str,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(&rate) = self.config.rates.get(action).filter(|rate| **rate > 0.0) else { return Ok(()) };
        let share =
            rate * if self.config.principal_share > 0.0 { self.config.principal_share.min(1.0) } else { 1.0 };
        let whole = self.hasher.hash_one((registry, action));
        let own = self.hasher.hash_one((registry, action, principal));
        // A panic while holding the lock leaves counts that are right or one off.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MANY {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = |rate: f64| Bucket { rate, tokens: rate.max(1.0), filled_at: now };
        let mut account = *buckets.entry(whole).or_insert_with(|| bucket(rate));
        let mut principal = *buckets.entry(own).or_insert_with(|| bucket(share));
        let waits = (account.take(now), principal.take(now));
        // A refused call costs nothing in either bucket.
        if let (Ok(()), Ok(())) = waits {
            buckets.insert(whole, account);
            buckets.insert(own, principal);
            return Ok(());
        }
        Err(waits.0.err().max(waits.1.err()).unwrap_or_default())
    }
}

impl Bucket {
    fn level(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.filled_at).as_secs_f64();
        (self.tokens + since * self.rate).min(self.rate.max(1.0))
    }

    fn is_full(&self, now: Instant) -> bool {
        self.level(now) >= self.rate.max(1.0)
    }

    fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let level = self.level(now);
        if level < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - level) / self.rate));
        }
        (self.tokens, self.filled_at) = (level - 1.0, now);
        Ok(())
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(enabled: bool, share: f64) -> Throttle {
        let rates = [("PutImage".to_owned(), 10.0)].into();
        Throttle::new(ThrottleConfig { enabled, rates, principal_share: share })
    }

    fn registry(account: &str, region: &str) -> RegistryRef {
        RegistryRef::new(account.parse().unwrap(), region.parse().unwrap())
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let throttle = throttle(true, 1.0);
        let (here, start) = (registry("123456789012", "us-east-1"), Instant::now());
        let passed =
            |now| (0..100).filter(|_| throttle.take_at(&here, "root", "PutImage", now).is_ok()).count();
        assert_eq!(passed(start), 10);
        assert_eq!(passed(start + Duration::from_millis(501)), 5);
        assert_eq!(passed(start + Duration::from_secs(60)), 10);
        let wait = throttle.take_at(&here, "root", "PutImage", start + Duration::from_secs(60)).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100), "{wait:?}");
    }

    #[test]
    fn accounts_regions_and_actions_have_their_own() {
        let (throttle, start) = (throttle(true, 1.0), Instant::now());
        let here = registry("123456789012", "us-east-1");
        while throttle.take_at(&here, "root", "PutImage", start).is_ok() {}
        for other in [registry("123456789012", "eu-west-1"), registry("210987654321", "us-east-1")] {
            assert!(throttle.take_at(&other, "root", "PutImage", start).is_ok());
        }
        assert!(throttle.take_at(&here, "root", "DescribeImages", start).is_ok());
        assert!(throttle.take_at(&here, "other", "PutImage", start).is_err());
    }

    #[test]
    fn one_principal_cannot_use_up_the_account() {
        let (throttle, start) = (throttle(true, 0.5), Instant::now());
        let here = registry("123456789012", "us-east-1");
        let passed =
            |who| (0..100).filter(|_| throttle.take_at(&here, who, "PutImage", start).is_ok()).count();
        assert_eq!((passed("one"), passed("two"), passed("three")), (5, 5, 0));
    }

    #[test]
    fn off_means_off_and_old_buckets_go() {
        let off = throttle(false, 1.0);
        let here = registry("123456789012", "us-east-1");
        assert!((0..1000).all(|_| off.take(&here, "root", "PutImage").is_ok()));
        let (on, start) = (throttle(true, 1.0), Instant::now());
        for caller in 0..2 * MANY {
            let later = start + Duration::from_secs(caller as u64);
            assert!(on.take_at(&here, &caller.to_string(), "PutImage", later).is_ok());
        }
        assert!(on.buckets.lock().unwrap().len() <= MANY + 2);
    }
}
