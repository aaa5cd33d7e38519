//! argon2id password hashes: ours and Drydock's (reliability.md S-1).

use argon2::{Algorithm, Argon2, Params, Version};
use base64::{
    Engine,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD,
    },
};
use subtle::ConstantTimeEq;

use super::tokens::random_bytes;

/// New hashes: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// What a configured hash may ask for: one verification must not exhaust the machine.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 100;

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
    #[error(
        "it is in an old form (plain text, SHA-1, MD5, crypt or bcrypt); make an argon2id hash of \
         the password, e.g. with `argon2 <salt> -id -m 16 -t 3 -p 4 -e`"
    )]
    Legacy,
    #[error("it is no argon2id hash: {0}")]
    Malformed(&'static str),
    #[error("its parameters are out of bounds: memory 19 MiB to 1 GiB, 2 to 100 passes")]
    Bounds,
}

/// A parsed argon2id hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
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
    /// A PHC string (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`) or Drydock's own form
    /// (`argon2id$memory$passes$parallelism$salt$hash`, memory in KiB).
    pub fn parse(text: &str) -> Result<Self, HashError> {
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
            _ => Err(HashError::Legacy),
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
                .decode(text)
                .map_err(|_| HashError::Malformed("salt or hash is not base64"))
        };
        let parsed = Self {
            memory_kib: number(memory)?,
            passes: number(passes)?,
            lanes: number(lanes)?,
            salt: bytes(salt)?,
            hash: bytes(hash)?,
        };
        if !(MEMORY_KIB..=MAX_MEMORY_KIB).contains(&parsed.memory_kib)
            || !(PASSES..=MAX_PASSES).contains(&parsed.passes)
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
        let mut new = Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            salt: random_bytes::<16>().to_vec(),
            hash: vec![0; 32],
        };
        new.hash = new.derive(password).unwrap_or_default();
        new
    }

    /// A hash that no password has and that costs as much to try: for users that do not exist.
    pub fn dummy(like: Option<&Self>) -> Self {
        Self {
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
        match self.derive(password) {
            Some(derived) => !self.hash.is_empty() && bool::from(derived.ct_eq(&self.hash)),
            None => false,
        }
    }

    /// As it is stored.
    pub fn to_phc(&self) -> String {
        format!(
            "$argon2id$v=19$m={},t={},p={}${}${}",
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

    fn derive(&self, password: &str) -> Option<Vec<u8>> {
        let mut output = vec![0; self.hash.len()];
        self.argon2()
            .ok()?
            .hash_password_into(password.as_bytes(), &self.salt, &mut output)
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
        let stored = PasswordHash::parse(&hash.to_phc()).unwrap();
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
    fn weak_old_and_broken_hashes_are_refused_by_name() {
        for text in [
            "plain",
            "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "$apr1$x$y",
            "$2b$10$abc",
        ] {
            assert_eq!(PasswordHash::parse(text), Err(HashError::Legacy), "{text}");
        }
        let weak = "$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
        assert_eq!(PasswordHash::parse(weak), Err(HashError::Bounds));
        let eaten = "argon2id655363";
        assert_eq!(PasswordHash::parse(eaten), Err(HashError::Legacy));
        assert!(matches!(
            PasswordHash::parse("argon2id$65536$3$4"),
            Err(HashError::Malformed(_))
        ));
    }

    #[test]
    fn a_dummy_accepts_nothing() {
        assert!(!PasswordHash::dummy(None).verify(""));
        assert!(!PasswordHash::dummy(None).verify("password"));
    }
}
