//! Who may do what. One model under every dialect (DESIGN.md 6): a principal has a role, and a
//! credential may narrow it to some scopes, never widen it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{TokenId, UserId};

/// A user's role. Each role may do everything that the one below it may: the order of the
/// variants is the order of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Runs the day: watches, updates, rolls back, sets policies.
    Operator,
    /// Also deletes, reveals secrets and manages users and settings.
    Admin,
    /// Also manages other owners.
    Owner,
}

impl Role {
    pub const ALL: &'static [Role] = &[Role::Viewer, Role::Operator, Role::Admin, Role::Owner];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text)
    }

    /// Whether the role itself carries the scope.
    pub fn allows(self, scope: Scope) -> bool {
        self >= scope.least_role()
    }

    /// Whether somebody with this role may make, change and remove users with the role `other`:
    /// owners everybody, admins those below them.
    pub fn manages(self, other: Self) -> bool {
        self == Self::Owner || (self == Self::Admin && other < Self::Admin)
    }

    /// Everything the role may do.
    pub fn scopes(self) -> ScopeSet {
        Scope::ALL
            .iter()
            .copied()
            .filter(|scope| self.allows(*scope))
            .collect()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $role:ident;)+) => {
        /// One permission, as an API token names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Scope {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl Scope {
            pub const ALL: &'static [Scope] = &[$(Scope::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text),+ }
            }

            /// The lowest role that carries this scope.
            pub const fn least_role(self) -> Role {
                match self { $(Scope::$variant => Role::$role),+ }
            }
        }
    };
}

scopes! {
    /// Lists, details, summaries, groups, backups, operations, the event stream.
    ContainersRead = "containers:read", Viewer;
    /// Agents, watchers, registries, triggers, application and server information.
    SystemRead = "system:read", Viewer;
    /// Ask for a watch of one container or of all.
    ContainersWatch = "containers:watch", Operator;
    /// Update to the found candidate, and preview it.
    ContainersUpdate = "containers:update", Operator;
    /// Go back to a kept backup.
    ContainersRollback = "containers:rollback", Operator;
    /// Start, stop and restart.
    ContainersActions = "containers:actions", Operator;
    /// Skip, snooze and maturity policy of a container.
    PolicyWrite = "policy:write", Operator;
    /// Run a trigger.
    TriggersRun = "triggers:run", Operator;
    /// The audit trail.
    AuditRead = "audit:read", Operator;
    /// Create, list and revoke one's own API tokens.
    TokensWrite = "tokens:write", Operator;
    /// Forget a container.
    ContainersDelete = "containers:delete", Admin;
    /// See the values of sensitive environment variables.
    ContainersReveal = "containers:reveal", Admin;
    /// Change settings and notification rules.
    SettingsWrite = "settings:write", Admin;
    /// Manage users; owners are managed by owners only.
    UsersWrite = "users:write", Admin;
}

impl Scope {
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes. In JSON: a list of names, in a fixed order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeSet(u32);

impl ScopeSet {
    pub const EMPTY: Self = Self(0);

    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u32) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every scope of `self` is in `other`: a token may be given only what its maker has.
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .iter()
            .copied()
            .filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(
            scopes
                .into_iter()
                .fold(0, |bits, scope| bits | 1 << scope as u32),
        )
    }
}

impl Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

/// What a request proved itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A browser session.
    Session,
    /// A user name and password with the request itself.
    Password,
    ApiToken(TokenId),
    /// The bearer token of the webhook endpoints.
    Webhook,
    /// None: the worker acts by a rule that the container's labels set.
    Plimsoll,
    /// Authentication is switched off and that was confirmed in the configuration.
    Anonymous,
}

/// Who is asking. Made by the API's authentication, read by every use case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: Option<UserId>,
    name: String,
    role: Role,
    scopes: ScopeSet,
    credential: Credential,
}

impl Principal {
    /// A user with everything that the role allows.
    pub fn user(id: UserId, name: impl Into<String>, role: Role, credential: Credential) -> Self {
        Self {
            user: Some(id),
            name: name.into(),
            role,
            scopes: role.scopes(),
            credential,
        }
    }

    /// A token of a user. `granted` is cut to what the role allows now: a demoted user's tokens
    /// lose what the user lost.
    pub fn token(
        id: TokenId,
        user: UserId,
        name: impl Into<String>,
        role: Role,
        granted: ScopeSet,
    ) -> Self {
        Self {
            user: Some(user),
            name: name.into(),
            role,
            scopes: granted.intersection(role.scopes()),
            credential: Credential::ApiToken(id),
        }
    }

    /// A webhook caller: only what its endpoint needs.
    pub fn webhook(scopes: ScopeSet) -> Self {
        Self {
            user: None,
            name: "webhook".to_owned(),
            role: Role::Operator,
            scopes: scopes.intersection(Role::Operator.scopes()),
            credential: Credential::Webhook,
        }
    }

    /// Plimsoll itself, going back from an update that did not stand.
    pub fn plimsoll() -> Self {
        Self {
            user: None,
            name: "plimsoll".to_owned(),
            role: Role::Operator,
            scopes: Role::Operator.scopes(),
            credential: Credential::Plimsoll,
        }
    }

    /// Everybody, when authentication is off (Drydock's `anonymous` user).
    pub fn anonymous(role: Role) -> Self {
        Self {
            user: None,
            name: "anonymous".to_owned(),
            role,
            scopes: role.scopes(),
            credential: Credential::Anonymous,
        }
    }

    /// Whoever reaches a dialect that was opened to everybody: what its clients do with containers,
    /// and nothing of what keeps the rest closed (secrets, credentials, users, settings).
    pub fn unasked() -> Self {
        const KEPT: &[Scope] = &[
            Scope::ContainersReveal,
            Scope::TokensWrite,
            Scope::SettingsWrite,
            Scope::UsersWrite,
        ];
        let mut principal = Self::anonymous(Role::Admin);
        let scopes = principal.scopes.iter();
        principal.scopes = scopes.filter(|scope| !KEPT.contains(scope)).collect();
        principal
    }

    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    pub fn user_id(&self) -> Option<UserId> {
        self.user
    }

    /// The name for audit rows and `/auth/user`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn scopes(&self) -> ScopeSet {
        self.scopes
    }

    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_what_the_one_below_has() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].scopes().is_subset(pair[1].scopes()));
        }
        assert_eq!(Role::Owner.scopes(), ScopeSet::all());
    }

    #[test]
    fn nobody_manages_their_equals_but_owners() {
        for by in Role::ALL {
            for other in Role::ALL {
                let expected = match by {
                    Role::Owner => true,
                    Role::Admin => matches!(other, Role::Operator | Role::Viewer),
                    Role::Operator | Role::Viewer => false,
                };
                assert_eq!(by.manages(*other), expected, "{by} {other}");
            }
        }
    }

    #[test]
    fn a_viewer_changes_nothing() {
        let names: Vec<_> = Role::Viewer.scopes().iter().map(Scope::as_str).collect();
        assert_eq!(names, ["containers:read", "system:read"]);
    }

    #[test]
    fn names_read_back_as_written() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
        }
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(*role));
        }
        let all = serde_json::to_string(&ScopeSet::all()).unwrap();
        assert_eq!(
            serde_json::from_str::<ScopeSet>(&all).unwrap(),
            ScopeSet::all()
        );
    }

    #[test]
    fn whoever_is_not_asked_works_with_containers_and_with_nothing_else() {
        let principal = Principal::unasked();
        assert!(principal.may(Scope::ContainersUpdate) && principal.may(Scope::ContainersDelete));
        for kept in [
            Scope::ContainersReveal,
            Scope::TokensWrite,
            Scope::UsersWrite,
        ] {
            assert!(!principal.may(kept), "{kept}");
        }
    }

    #[test]
    fn a_token_never_has_more_than_its_user() {
        let token = Principal::token(
            TokenId::generate(),
            UserId::generate(),
            "ann",
            Role::Viewer,
            ScopeSet::all(),
        );
        assert!(token.may(Scope::ContainersRead));
        assert!(!token.may(Scope::ContainersUpdate));
    }

    #[test]
    fn a_webhook_never_gets_administration() {
        let hook = Principal::webhook(ScopeSet::all());
        assert!(hook.may(Scope::ContainersWatch));
        assert!(!hook.may(Scope::ContainersDelete));
    }
}
