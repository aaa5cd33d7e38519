//! Managing users: who may change whom, and what must not happen (reliability.md S-5, S-17).

use plimsoll_domain::{
    access::{Role, Scope},
    ids::UserId,
};
pub use plimsoll_store::accounts::AccountRow;
use plimsoll_store::{
    Transaction,
    accounts::{self, AccountChange},
    audit::{self, AuditStatus, NewAudit},
    begin, commit,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{App, AppError, access::password::PasswordHash, requests::Caller};

pub const NOT_FOUND: &str = "User not found";
const MAX_NAME: usize = 100;
const MIN_PASSWORD: usize = 12;
const MAX_PASSWORD: usize = 1024;

#[derive(Clone, Debug)]
pub struct NewUser {
    pub username: String,
    pub password: SecretString,
    pub role: Role,
}

/// What changes; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}

impl App {
    /// Every account, by name.
    pub async fn users(&self, caller: &Caller<'_>) -> Result<Vec<AccountRow>, AppError> {
        caller.authorise(Scope::UsersWrite)?;
        self.prepare_accounts().await?;
        Ok(self.store().accounts().await?)
    }

    /// # Errors
    /// `Invalid` for a bad name or password, `Forbidden` for a role that the caller may not give,
    /// `Conflict` for a name that is taken.
    pub async fn create_user(
        &self,
        new: NewUser,
        caller: &Caller<'_>,
    ) -> Result<AccountRow, AppError> {
        caller.authorise(Scope::UsersWrite)?;
        self.prepare_accounts().await?;
        check_name(&new.username)?;
        check_may_manage(caller, new.role)?;
        let hash = hash(new.password).await?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        accounts::lock(&tx).await?;
        let id = UserId::generate();
        if !accounts::create(&tx, id, &new.username, new.role, &hash).await? {
            return Err(taken());
        }
        let details = format!("{} as {}", new.username, new.role);
        record(&tx, "user-created", &details, caller).await?;
        let row = accounts::get(&tx, id).await?.ok_or_else(not_found)?;
        commit(tx).await?;
        Ok(row)
    }

    /// Whatever changes takes effect on every replica with the next request; the user's sessions
    /// end.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden` for users and roles above the caller's reach; `Conflict` for the
    /// last owner, for a name that is taken, and for what is decided elsewhere: in the
    /// configuration, or by an identity provider.
    pub async fn change_user(
        &self,
        id: UserId,
        change: UserChange,
        caller: &Caller<'_>,
    ) -> Result<AccountRow, AppError> {
        caller.authorise(Scope::UsersWrite)?;
        if let Some(name) = &change.username {
            check_name(name)?;
        }
        let new_hash = match change.password {
            Some(password) => Some(hash(password).await?),
            None => None,
        };
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        accounts::lock(&tx).await?;
        let before = accounts::get(&tx, id).await?.ok_or_else(not_found)?;
        check_may_manage(caller, before.role)?;
        if let Some(role) = change.role {
            check_may_manage(caller, role)?;
        }
        check_source(&before)?;
        if let Some(issuer) = &before.issuer {
            if change.username.is_some() || new_hash.is_some() {
                return Err(AppError::conflict(
                    "Name and password of this user are the identity provider's",
                ));
            }
            if change.role.is_some() && self.provider_decides_roles(issuer) {
                return Err(AppError::conflict(
                    "The role of this user follows from the identity provider's claims",
                ));
            }
        }
        if let Some(name) = &change.username
            && accounts::name_is_taken(&tx, name, id).await?
        {
            return Err(taken());
        }
        let remains = change.role.unwrap_or(before.role) == Role::Owner
            && !change.disabled.unwrap_or(before.disabled);
        check_last_owner(&tx, &before, remains).await?;
        let stored = AccountChange {
            username: change.username.as_deref(),
            role: change.role,
            password_hash: new_hash.as_deref(),
            disabled: change.disabled,
        };
        accounts::change(&tx, id, &stored).await?;
        let mut what = Vec::new();
        if let Some(name) = &change.username {
            what.push(format!("name {name}"));
        }
        if new_hash.is_some() {
            what.push("password".to_owned());
        }
        if let Some(role) = change.role {
            what.push(format!("role {role}"));
        }
        if let Some(disabled) = change.disabled {
            what.push(if disabled { "disabled" } else { "enabled" }.to_owned());
        }
        let details = format!("{}: {}", before.username, what.join(", "));
        record(&tx, "user-changed", &details, caller).await?;
        let after = accounts::get(&tx, id).await?.ok_or_else(not_found)?;
        commit(tx).await?;
        Ok(after)
    }

    /// Removes a user with sessions and tokens. Somebody whom an identity provider vouches for may
    /// come back as a new user; disabling keeps them out.
    ///
    /// # Errors
    /// As [`App::change_user`].
    pub async fn delete_user(&self, id: UserId, caller: &Caller<'_>) -> Result<(), AppError> {
        caller.authorise(Scope::UsersWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        accounts::lock(&tx).await?;
        let before = accounts::get(&tx, id).await?.ok_or_else(not_found)?;
        check_may_manage(caller, before.role)?;
        check_source(&before)?;
        check_last_owner(&tx, &before, false).await?;
        accounts::delete(&tx, id).await?;
        record(&tx, "user-removed", &before.username, caller).await?;
        commit(tx).await?;
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), AppError> {
    let printable = !name.chars().any(|c| c.is_control() || c == ':');
    let length = name.chars().count();
    if printable && (1..=MAX_NAME).contains(&length) && name.trim() == name {
        return Ok(());
    }
    Err(AppError::Invalid(format!(
        "username must have 1 to {MAX_NAME} printable characters, no colon, and no space at its ends"
    )))
}

/// Off the async threads: hashing takes tens of milliseconds.
async fn hash(password: SecretString) -> Result<String, AppError> {
    let length = password.expose_secret().len();
    if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&length) {
        return Err(AppError::Invalid(format!(
            "password must have {MIN_PASSWORD} to {MAX_PASSWORD} bytes"
        )));
    }
    tokio::task::spawn_blocking(move || PasswordHash::create(password.expose_secret()).to_text())
        .await
        .map_err(|error| AppError::Internal(error.to_string()))
}

fn check_may_manage(caller: &Caller<'_>, role: Role) -> Result<(), AppError> {
    if caller.principal.role().manages(role) {
        return Ok(());
    }
    Err(AppError::Forbidden(format!(
        "Only owners manage users with the role {role}"
    )))
}

/// The next start would undo a change here.
fn check_source(user: &AccountRow) -> Result<(), AppError> {
    if user.source != "configuration" {
        return Ok(());
    }
    Err(AppError::conflict(
        "This user comes from the configuration (DD_AUTH_BASIC_…); change it there",
    ))
}

async fn check_last_owner(
    tx: &Transaction<'_>,
    user: &AccountRow,
    remains_owner: bool,
) -> Result<(), AppError> {
    let is_owner = user.role == Role::Owner && !user.disabled;
    if !is_owner || remains_owner || accounts::other_owners(tx, user.id).await? {
        return Ok(());
    }
    Err(AppError::conflict(
        "This is the last owner who can sign in; make another user an owner first",
    ))
}

async fn record(
    tx: &Transaction<'_>,
    action: &str,
    details: &str,
    caller: &Caller<'_>,
) -> Result<(), AppError> {
    let mut entry = NewAudit::new(action, "", AuditStatus::Info);
    entry.details = Some(details);
    entry.actor = Some(caller.principal.name());
    entry.request_id = caller.request_id;
    audit::append(tx, &entry).await?;
    Ok(())
}

fn taken() -> AppError {
    AppError::conflict("There is a user with this name")
}

fn not_found() -> AppError {
    AppError::NotFound(NOT_FOUND.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_basic_authentication_can_carry() {
        for good in ["ann", "Ann Lee", "ann@example.org", "ånn"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", " ann", "a:b", "a\nb", &"x".repeat(101)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
