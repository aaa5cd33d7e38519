//! argon2id password hashes: ours and Drydock's (reliability.md S-1), and around the older forms that
//! Drydock reads.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD,
    },
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{old_hash::OldForm, tokens::random_bytes};

/// New hashes: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a configured hash may ask for: one verification must not exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 100;
const MAX_LANES: u32 = 16;

/// With or without padding: Drydock's tools write both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a hash of the configuration cannot be used. Never repeats the hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("bcrypt hashes are not read; {REMEDY}")]
    Bcrypt,
    #[error("it is in no form that is read; {REMEDY}")]
    Unknown,
    #[error("it is no argon2id hash: {0}")]
    Malformed(&'static str),
    #[error(
        "its parameters are out of bounds: memory 19 MiB to 1 GiB, 2 to 100 passes, 1 to 16 lanes"
    )]
    Bounds,
}

/// What to do about a hash that should not be used.
pub const REMEDY: &str = "make an argon2id hash of the password, e.g. with \
                          `argon2 <salt> -id -m 16 -t 3 -p 4 -e`";

/// A parsed argon2id hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    /// Made of the password first, and argon2id of that.
    old: Option<OldForm>,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

impl PasswordHash {
    /// What the configuration says of `username`: what [`PasswordHash::parse`] reads, or an older
    /// form that Drydock reads: `{SHA}`, `$apr1$`, `$1$`, `crypt`, or the password itself. The
    /// older forms are hashed here, which takes as long as [`PasswordHash::create`], always to the
    /// same result.
    pub fn configured(text: &str, username: &str) -> Result<Self, HashError> {
        let text = text.trim();
        match Self::parse(text) {
            Err(HashError::Unknown) => {}
            parsed => return parsed,
        }
        let (form, secret) = match OldForm::of(text) {
            Some(known) => known,
            // Other tools' hashes, and argon2id's whose `$` a shell or Compose ate, are no
            // passwords that anybody would type.
            None if text.starts_with(['$', '{']) || text.contains("argon2") => {
                return Err(HashError::Unknown);
            }
            None if text.contains("v=19m=") || text.is_empty() => return Err(HashError::Unknown),
            None => (OldForm::Plain, text.to_owned()),
        };
        let salt = Sha256::digest(format!("plimsoll configured user {username}"));
        Ok(Self::derived(Some(form), &secret, salt[..16].to_vec()))
    }

    /// The name of the form that the password should no longer be kept in.
    pub fn old_form(&self) -> Option<&'static str> {
        self.old.as_ref().map(OldForm::name)
    }

    /// A PHC string (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`), Drydock's own form
    /// (`argon2id$memory$passes$parallelism$salt$hash`, memory in KiB), or what
    /// [`PasswordHash::to_text`] wrote.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        if let Some((old, rest)) = OldForm::read_mark(text) {
            return Ok(Self {
                old: Some(old),
                ..Self::parse(rest)?
            });
        }
        let parts: Vec<&str> = text.trim().split('$').collect();
        match parts.as_slice() {
            ["", "argon2id", "v=19", parameters, salt, hash] => {
                let mut memory = None;
                let mut passes = None;
                let mut lanes = None;
                for pair in parameters.split(',') {
                    match pair.split_once('=') {
                        Some(("m", value)) => memory = Some(value),
                        Some(("t", value)) => passes = Some(value),
                        Some(("p", value)) => lanes = Some(value),
                        _ => return Err(HashError::Malformed("a parameter is not m, t or p")),
                    }
                }
                let missing = HashError::Malformed("it needs m, t and p");
                let (Some(memory), Some(passes), Some(lanes)) = (memory, passes, lanes) else {
                    return Err(missing);
                };
                Self::from_parts(memory, passes, lanes, salt, hash)
            }
            ["argon2id", memory, passes, lanes, salt, hash] => {
                Self::from_parts(memory, passes, lanes, salt, hash)
            }
            ["", "argon2id", ..] | ["argon2id", ..] => Err(HashError::Malformed(
                "it needs six parts separated by `$`; did a shell or Compose eat them? Write `$$` \
                 in a Compose file",
            )),
            ["", "argon2i" | "argon2d", ..] => Err(HashError::Malformed("only argon2id is safe")),
            ["", "2a" | "2b" | "2x" | "2y", ..] => Err(HashError::Bcrypt),
            _ => Err(HashError::Unknown),
        }
    }

    fn from_parts(
        memory: &str,
        passes: &str,
        lanes: &str,
        salt: &str,
        hash: &str,
    ) -> Result<Self, HashError> {
        let number = |text: &str| {
            text.parse::<u32>()
                .map_err(|_| HashError::Malformed("a parameter is not a number"))
        };
        let bytes = |text: &str| {
            BASE64
                .decode(text.replace('-', "+").replace('_', "/"))
                .map_err(|_| HashError::Malformed("salt or hash is not base64"))
        };
        let parsed = Self {
            old: None,
            memory_kib: number(memory)?,
            passes: number(passes)?,
            lanes: number(lanes)?,
            salt: bytes(salt)?,
            hash: bytes(hash)?,
        };
        if !(MEMORY_KIB..=MAX_MEMORY_KIB).contains(&parsed.memory_kib)
            || !(PASSES..=MAX_PASSES).contains(&parsed.passes)
            || !(LANES..=MAX_LANES).contains(&parsed.lanes)
        {
            return Err(HashError::Bounds);
        }
        if parsed.salt.len() < 8 || !(16..=128).contains(&parsed.hash.len()) {
            return Err(HashError::Malformed("salt or hash has an unusual length"));
        }
        parsed.argon2().map_err(|_| HashError::Bounds)?;
        Ok(parsed)
    }

    /// A new hash of `password`. Takes tens of milliseconds and 19 MiB: not on an async thread.
    pub fn create(password: &str) -> Self {
        Self::derived(None, password, random_bytes::<16>().to_vec())
    }

    fn derived(old: Option<OldForm>, secret: &str, salt: Vec<u8>) -> Self {
        let mut new = Self {
            old,
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt,
            hash: vec![0; 32],
        };
        new.hash = new.derive(secret).unwrap_or_default();
        new
    }

    /// A hash that no password has and that costs as much to try: for users that do not exist.
    pub fn dummy(like: Option<&Self>) -> Self {
        Self {
            old: like.and_then(|hash| hash.old.clone()),
            memory_kib: like.map_or(MEMORY_KIB, |hash| hash.memory_kib),
            passes: like.map_or(PASSES, |hash| hash.passes),
            lanes: like.map_or(LANES, |hash| hash.lanes),
            salt: vec![7; like.map_or(16, |hash| hash.salt.len())],
            hash: random_bytes::<32>().to_vec(),
        }
    }

    /// Whether it is the hash of `password`. As slow as [`PasswordHash::create`], whatever the
    /// outcome.
    pub fn verify(&self, password: &str) -> bool {
        let secret = match &self.old {
            Some(old) => &old.apply(password),
            None => password,
        };
        match self.derive(secret) {
            Some(derived) => !self.hash.is_empty() && bool::from(derived.ct_eq(&self.hash)),
            None => false,
        }
    }

    /// As it is stored.
    pub fn to_text(&self) -> String {
        format!(
            "{}$argon2id$v=19$m={},t={},p={}${}${}",
            self.old.as_ref().map(OldForm::mark).unwrap_or_default(),
            self.memory_kib,
            self.passes,
            self.lanes,
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.hash)
        )
    }

    fn argon2(&self) -> Result<Argon2<'static>, argon2::Error> {
        let output = Some(self.hash.len());
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, output)?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
    }

    fn derive(&self, secret: &str) -> Option<Vec<u8>> {
        let mut output = vec![0; self.hash.len()];
        self.argon2()
            .ok()?
            .hash_password_into(secret.as_bytes(), &self.salt, &mut output)
            .ok()?;
        Some(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hash_knows_its_password_and_no_other() {
        let hash = PasswordHash::create("correct horse");
        assert!(hash.verify("correct horse"));
        assert!(!hash.verify("correct horse "));
        let stored = PasswordHash::parse(&hash.to_text()).unwrap();
        assert!(stored.verify("correct horse"));
    }

    #[test]
    fn drydocks_form_is_read_with_padding_and_without() {
        let hash = PasswordHash::create("pw");
        let salt = base64::engine::general_purpose::STANDARD.encode(&hash.salt);
        let digest = base64::engine::general_purpose::STANDARD.encode(&hash.hash);
        for (salt, digest) in [
            (salt.as_str(), digest.as_str()),
            (salt.trim_end_matches('='), digest.trim_end_matches('=')),
        ] {
            let text = format!("argon2id$19456$2$1${salt}${digest}");
            assert!(PasswordHash::parse(&text).unwrap().verify("pw"), "{text}");
        }
    }

    #[test]
    fn drydocks_own_command_writes_a_hash_that_is_read() {
        // The reference implementation's, with the parameters of Drydock's documentation.
        let text = "argon2id$65536$3$4$ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBg\
                    oM=$aUNeOfIgd/UlKLULr0khLe1/jSAcN4YcJPZzmRgCeByKkMdwcPTr0tocYLW2LM7YMSUeZoVj6d4J4YDASDhg5Q==";
        assert!(PasswordHash::parse(text).unwrap().verify("correct horse"));
        assert!(!PasswordHash::parse(text).unwrap().verify("correct hors"));
    }

    #[test]
    fn weak_and_broken_hashes_are_refused_by_name() {
        let refused = |text: &str| PasswordHash::configured(text, "ann").unwrap_err();
        for text in ["$2b$10$abc", "$2y$05$abc"] {
            assert_eq!(refused(text), HashError::Bcrypt, "{text}");
        }
        for text in [
            "$6$x$y",
            "{SSHA}abc",
            "argon2id655363",
            "v=19m=65536,t=3",
            "",
            "$apr1$x",
        ] {
            assert_eq!(refused(text), HashError::Unknown, "{text}");
        }
        let weak = "$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
        assert_eq!(refused(weak), HashError::Bounds);
        assert!(matches!(
            refused("argon2id$65536$3$4"),
            HashError::Malformed(_)
        ));
    }

    #[test]
    fn an_old_hash_is_kept_inside_a_new_one() {
        for (text, form) in [
            ("{SHA}mN7MYuzjmaIu0w1JDvMzvn/ec4U=", "SHA-1"),
            ("$apr1$8zDVtSAY$FOo9ppRa/p7SrDvI7xKxY.", "APR1"),
            ("rlBrzAiotJdIw", "crypt"),
            ("correct horse battery", "plain text"),
        ] {
            let hash = PasswordHash::configured(text, "ann").unwrap();
            assert_eq!(hash.old_form(), Some(form));
            let stored = hash.to_text();
            assert!(!stored.contains(text), "{stored}");
            assert!(!stored.contains("FOo9ppRa"), "{stored}");
            assert_eq!(
                PasswordHash::configured(text, "ann").unwrap().to_text(),
                stored
            );
            let stored = PasswordHash::parse(&stored).unwrap();
            assert!(stored.verify("correct horse battery"), "{form}");
            assert!(!stored.verify("wrong horse"), "{form}");
            assert!(!stored.verify(text) || form == "plain text", "{form}");
        }
    }

    #[test]
    fn a_dummy_accepts_nothing() {
        assert!(!PasswordHash::dummy(None).verify(""));
        assert!(!PasswordHash::dummy(None).verify("password"));
    }
}
