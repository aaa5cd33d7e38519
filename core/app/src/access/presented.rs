use std::{fmt, sync::OnceLock};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::tokens::random_bytes;

/// SHA-256 of a credential. The credential itself is not kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CredentialDigest([u8; 32]);

impl CredentialDigest {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the digest of `secret`, in constant time.
    pub fn is_of(&self, secret: &SecretString) -> bool {
        let other = Self::of(secret.expose_secret());
        self.0.ct_eq(&other.0).into()
    }

    /// Enough of it to tell credentials apart in keys; says nothing about the credential.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl fmt::Debug for CredentialDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialDigest(***)")
    }
}

/// What a request proves itself with, read but not checked.
#[derive(Clone, Debug)]
pub enum Presented {
    Nothing,
    /// Nothing, where nothing is asked for: a dialect that is open to whoever reaches it.
    Unasked,
    /// Something that no kind of credential looks like: never the same as nothing.
    Unreadable,
    Session(CredentialDigest),
    Token(CredentialDigest),
    Password {
        username: String,
        password: SecretString,
        digest: CredentialDigest,
    },
}

impl Presented {
    pub fn session(id: &str) -> Self {
        Self::Session(CredentialDigest::of(id))
    }

    pub fn token(secret: &str) -> Self {
        Self::Token(CredentialDigest::of(secret))
    }

    pub fn password(username: &str, password: SecretString) -> Self {
        // Passwords can be guessed from a plain hash, so a key that never leaves this process is
        // part of what is hashed.
        let mut hasher = Sha256::new();
        hasher.update(process_key());
        hasher.update((username.len() as u64).to_be_bytes());
        hasher.update(username.as_bytes());
        hasher.update(password.expose_secret().as_bytes());
        Self::Password {
            username: username.to_owned(),
            password,
            digest: CredentialDigest(hasher.finalize().into()),
        }
    }

    pub fn digest(&self) -> Option<&CredentialDigest> {
        match self {
            Self::Nothing | Self::Unasked | Self::Unreadable => None,
            Self::Session(digest) | Self::Token(digest) | Self::Password { digest, .. } => {
                Some(digest)
            }
        }
    }
}

fn process_key() -> &'static [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(random_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_passwords_do_not_run_into_each_other() {
        let digest = |name: &str, password: &str| {
            let presented = Presented::password(name, SecretString::from(password.to_owned()));
            presented.digest().cloned()
        };
        assert_ne!(digest("ab", "c"), digest("a", "bc"));
        assert_eq!(digest("a", "b"), digest("a", "b"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let presented = Presented::password("ann", SecretString::from("s3cret".to_owned()));
        assert!(!format!("{presented:?}").contains("s3cret"));
    }
}
