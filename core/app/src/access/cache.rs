use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use plimsoll_domain::access::Principal;

use super::CredentialDigest;

/// Principals that one replica remembers. When there are more it starts over.
const MAX: usize = 10_000;
/// Seconds between two records of a token's use.
const TOUCH_INTERVAL: i64 = 60;

/// Principals by credential.
#[derive(Default)]
pub(super) struct Cache {
    entries: RwLock<HashMap<CredentialDigest, Arc<Entry>>>,
}

pub(super) struct Entry {
    pub principal: Arc<Principal>,
    /// The access data's version that it was read under, or a later one.
    version: i64,
    expires_at: Option<DateTime<Utc>>,
    touched: AtomicI64,
}

impl Entry {
    pub fn new(principal: Principal, version: i64, expires_at: Option<DateTime<Utc>>) -> Self {
        Self {
            principal: Arc::new(principal),
            version,
            expires_at,
            touched: AtomicI64::new(0),
        }
    }

    /// Once a minute, for one caller.
    pub fn is_due_for_touch(&self, now: DateTime<Utc>) -> bool {
        let now = now.timestamp();
        let last = self.touched.load(Ordering::Relaxed);
        now - last >= TOUCH_INTERVAL
            && self
                .touched
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

impl Cache {
    /// What was read under this very version and has not expired.
    pub fn get(&self, digest: &CredentialDigest, version: i64) -> Option<Arc<Entry>> {
        let entry = self.peek(digest)?;
        (entry.version == version).then_some(entry)
    }

    /// Whatever is remembered, current or not.
    pub fn peek(&self, digest: &CredentialDigest) -> Option<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(digest)?;
        entry.is_valid(Utc::now()).then(|| entry.clone())
    }

    pub fn put(&self, digest: CredentialDigest, entry: Arc<Entry>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX {
            entries.clear();
        }
        if let Some(known) = entries.get(&digest) {
            // The interval holds across versions.
            let touched = known.touched.load(Ordering::Relaxed);
            entry.touched.store(touched, Ordering::Relaxed);
        }
        entries.insert(digest, entry);
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use plimsoll_domain::access::Role;

    use super::*;

    fn entry(version: i64, expires_in: i64) -> Arc<Entry> {
        let at = Utc::now() + TimeDelta::seconds(expires_in);
        Arc::new(Entry::new(
            Principal::anonymous(Role::Viewer),
            version,
            Some(at),
        ))
    }

    #[test]
    fn a_principal_holds_only_for_the_version_it_was_read_under() {
        let cache = Cache::default();
        let digest = CredentialDigest::of("x");
        cache.put(digest.clone(), entry(7, 60));
        assert!(cache.get(&digest, 7).is_some());
        assert!(cache.get(&digest, 8).is_none());
        assert!(cache.peek(&digest).is_some());
    }

    #[test]
    fn an_expired_credential_is_not_remembered() {
        let cache = Cache::default();
        let digest = CredentialDigest::of("x");
        cache.put(digest.clone(), entry(7, -1));
        assert!(cache.get(&digest, 7).is_none());
    }

    #[test]
    fn use_is_recorded_once_a_minute_also_across_versions() {
        let cache = Cache::default();
        let digest = CredentialDigest::of("x");
        let now = Utc::now();
        let first = entry(1, 600);
        assert!(first.is_due_for_touch(now));
        assert!(!first.is_due_for_touch(now + TimeDelta::seconds(59)));
        cache.put(digest.clone(), first);
        let second = entry(2, 600);
        cache.put(digest, second.clone());
        assert!(!second.is_due_for_touch(now + TimeDelta::seconds(59)));
        assert!(second.is_due_for_touch(now + TimeDelta::seconds(61)));
    }
}
