//! Permissions as types, for [`Authorized`](super::Authorized).

use plimsoll_domain::access::Scope;

/// What an operation demands of its caller.
pub trait Needs: Send + Sync + 'static {
    /// `None`: any principal.
    const PERMISSION: Option<Scope>;
    /// [`PERMISSION_MARK`](super::PERMISSION_MARK) and the permission's name.
    const MARK: &'static str;
}

/// Whoever is signed in.
pub enum SignedIn {}

impl Needs for SignedIn {
    const PERMISSION: Option<Scope> = None;
    const MARK: &'static str = "permission ";
}

macro_rules! permissions {
    ($($name:ident = $text:literal),+ $(,)?) => {
        $(
            pub enum $name {}

            impl Needs for $name {
                const PERMISSION: Option<Scope> = Some(Scope::$name);
                const MARK: &'static str = concat!("permission ", $text);
            }
        )+

        #[cfg(test)]
        const MARKS: &[(Scope, &str)] = &[$((Scope::$name, $text)),+];
    };
}

permissions! {
    ContainersRead = "containers:read",
    SystemRead = "system:read",
    ContainersWatch = "containers:watch",
    ContainersUpdate = "containers:update",
    ContainersRollback = "containers:rollback",
    ContainersActions = "containers:actions",
    PolicyWrite = "policy:write",
    TriggersRun = "triggers:run",
    AuditRead = "audit:read",
    TokensWrite = "tokens:write",
    ContainersDelete = "containers:delete",
    ContainersReveal = "containers:reveal",
    SettingsWrite = "settings:write",
    UsersWrite = "users:write",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_a_type_under_its_own_name() {
        assert_eq!(MARKS.len(), Scope::ALL.len());
        for (scope, text) in MARKS {
            assert_eq!(scope.as_str(), *text);
        }
    }
}
