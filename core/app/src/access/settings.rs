use std::time::Duration;

use plimsoll_domain::access::Role;
use plimsoll_store::{login_failures::LockoutRule, users::WantedUser};

use super::{oidc::OidcSettings, password::PasswordHash};

/// Whether requests without a credential are let in (`DD_ANONYMOUS_AUTH_CONFIRM`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousAccess {
    #[default]
    Refused,
    /// Only takes effect where neither users nor identity providers are configured.
    Confirmed,
}

/// A user of `DD_AUTH_BASIC_<NAME>_USER` and `_HASH`.
#[derive(Clone, Debug)]
pub struct ConfiguredUser {
    /// The `<NAME>`, as `GET /api/v1/authentications` shows it.
    pub strategy: String,
    pub username: String,
    pub role: Role,
    pub hash: PasswordHash,
}

/// How users sign in. The same on every replica.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    pub users: Vec<ConfiguredUser>,
    /// Identity providers.
    pub oidc: Vec<OidcSettings>,
    pub anonymous: AnonymousAccess,
    /// Failures of one account, and of one address, before they are locked out.
    pub account_failures: u32,
    pub address_failures: u32,
    /// The span in which failures are counted, and how long a lock lasts.
    pub lockout_window: Duration,
    pub lockout: Duration,
    /// Password verifications at once in this process.
    pub max_verifications: usize,
    /// Sessions of one user; the oldest ends when there would be more.
    pub max_sessions: u32,
}

impl Default for AccessSettings {
    /// Drydock's defaults (reference/drydock.md 1.1, section 5).
    fn default() -> Self {
        Self {
            users: Vec::new(),
            oidc: Vec::new(),
            anonymous: AnonymousAccess::Refused,
            account_failures: 5,
            address_failures: 25,
            lockout_window: Duration::from_secs(15 * 60),
            lockout: Duration::from_secs(15 * 60),
            max_verifications: 2,
            max_sessions: 5,
        }
    }
}

impl AccessSettings {
    /// Whether requests without a credential are let in.
    pub(crate) fn lets_everybody_in(&self) -> bool {
        self.anonymous == AnonymousAccess::Confirmed
            && self.users.is_empty()
            && self.oidc.is_empty()
    }

    pub(super) fn wanted_users(&self) -> Vec<WantedUser> {
        self.users
            .iter()
            .map(|user| WantedUser {
                username: user.username.clone(),
                role: user.role,
                password_hash: user.hash.to_text(),
            })
            .collect()
    }

    pub(super) fn account_rule(&self) -> LockoutRule {
        self.rule(self.account_failures)
    }

    pub(super) fn address_rule(&self) -> LockoutRule {
        self.rule(self.address_failures)
    }

    fn rule(&self, failures: u32) -> LockoutRule {
        LockoutRule {
            failures: i32::try_from(failures).unwrap_or(i32::MAX),
            window: self.lockout_window,
            lock: self.lockout,
        }
    }
}
