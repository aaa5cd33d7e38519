//! The password hashes that Drydock's first releases took from `htpasswd` (reference/drydock.md
//! section 5). They can be broken, so none is kept: what is stored is an argon2id hash of the old
//! hash, and a sign-in makes the old hash of the password first.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::Md5;
use sha1::{Digest, Sha1};

use super::unix_crypt::unix_crypt;

/// What is done to a password before argon2id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OldForm {
    /// The configuration holds the password itself.
    Plain,
    Sha1,
    /// Apache's `$apr1$` or Unix's `$1$`.
    Md5 {
        magic: &'static str,
        salt: String,
    },
    /// DES, of the first eight characters.
    Crypt {
        salt: String,
    },
}

impl OldForm {
    /// The form of a configured hash, and the hash as [`OldForm::apply`] makes it.
    pub fn of(text: &str) -> Option<(Self, String)> {
        if text.get(..5)?.eq_ignore_ascii_case("{sha}") {
            let digest = STANDARD.decode(&text[5..]).ok()?;
            let text = format!("{{SHA}}{}", STANDARD.encode(&digest));
            return (digest.len() == 20).then_some((Self::Sha1, text));
        }
        for magic in ["apr1", "1"] {
            let rest = text
                .strip_prefix('$')
                .and_then(|text| text.strip_prefix(magic)?.strip_prefix('$'));
            let Some((salt, _)) = rest.and_then(|rest| rest.split_once('$')) else {
                continue;
            };
            let salt = salt.to_owned();
            return is_salt(&salt).then(|| (Self::Md5 { magic, salt }, text.to_owned()));
        }
        if text.len() == 13 && is_salt(text) {
            let salt = text[..2].to_owned();
            return Some((Self::Crypt { salt }, text.to_owned()));
        }
        None
    }

    /// For people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain => "plain text",
            Self::Sha1 => "SHA-1",
            Self::Md5 { magic: "apr1", .. } => "APR1",
            Self::Md5 { .. } => "MD5",
            Self::Crypt { .. } => "crypt",
        }
    }

    /// The old hash of a password, as `htpasswd` writes it.
    pub fn apply(&self, password: &str) -> String {
        match self {
            Self::Plain => password.to_owned(),
            Self::Sha1 => format!("{{SHA}}{}", STANDARD.encode(Sha1::digest(password))),
            Self::Md5 { magic, salt } => md5_crypt(password.as_bytes(), magic, salt),
            Self::Crypt { salt } => unix_crypt(password.as_bytes(), salt),
        }
    }

    /// How it is stored, in braces before the argon2id hash.
    pub fn mark(&self) -> String {
        match self {
            Self::Plain => "{plain}".to_owned(),
            Self::Sha1 => "{sha1}".to_owned(),
            Self::Md5 { magic, salt } => format!("{{{magic}:{salt}}}"),
            Self::Crypt { salt } => format!("{{crypt:{salt}}}"),
        }
    }

    /// What [`OldForm::mark`] wrote, and what is after it.
    pub fn read_mark(text: &str) -> Option<(Self, &str)> {
        let (mark, rest) = text.strip_prefix('{')?.split_once('}')?;
        let form = match mark.split_once(':') {
            None if mark == "plain" => Self::Plain,
            None if mark == "sha1" => Self::Sha1,
            Some(("apr1", salt)) if is_salt(salt) => Self::Md5 {
                magic: "apr1",
                salt: salt.to_owned(),
            },
            Some(("1", salt)) if is_salt(salt) => Self::Md5 {
                magic: "1",
                salt: salt.to_owned(),
            },
            Some(("crypt", salt)) if is_salt(salt) && salt.len() == 2 => Self::Crypt {
                salt: salt.to_owned(),
            },
            _ => return None,
        };
        Some((form, rest))
    }
}

fn is_salt(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    !text.is_empty() && text.bytes().all(known)
}

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Poul-Henning Kamp's MD5 scheme, with Apache's magic or the original one.
fn md5_crypt(password: &[u8], magic: &str, salt: &str) -> String {
    let salt = &salt[..salt.len().min(8)];
    let md5 = |parts: &[&[u8]]| -> [u8; 16] {
        let mut hasher = Md5::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().into()
    };
    let inner = md5(&[password, salt.as_bytes(), password]);
    let mut hasher = Md5::new();
    hasher.update(password);
    hasher.update(format!("${magic}${salt}"));
    for piece in password.chunks(16) {
        hasher.update(&inner[..piece.len()]);
    }
    let mut length = password.len();
    while length > 0 {
        let byte = match length & 1 {
            1 => 0,
            _ => password[0],
        };
        hasher.update([byte]);
        length >>= 1;
    }
    let mut digest: [u8; 16] = hasher.finalize().into();
    for round in 0..1000 {
        let odd = round % 2 == 1;
        let mut parts: Vec<&[u8]> = vec![if odd { password } else { &digest }];
        if round % 3 != 0 {
            parts.push(salt.as_bytes());
        }
        if round % 7 != 0 {
            parts.push(password);
        }
        parts.push(if odd { &digest } else { password });
        let next = md5(&parts);
        digest = next;
    }
    let mut text = format!("${magic}${salt}$");
    let mut write = |mut value: u32, characters: usize| {
        for _ in 0..characters {
            text.push(ALPHABET[(value & 63) as usize] as char);
            value >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        let [a, b, c]: [usize; 3] = [a, b, c];
        let value = u32::from_be_bytes([0, digest[a], digest[b], digest[c]]);
        write(value, 4);
    }
    write(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd`, `htpasswd` and `crypt(3)`.
    #[test]
    fn old_hashes_are_made_as_the_tools_make_them() {
        for (text, password) in VECTORS {
            let (form, normal) = OldForm::of(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(form.apply(password), normal, "{text}");
            assert_ne!(form.apply("other"), normal, "{text}");
            let mark = format!("{}rest", form.mark());
            assert_eq!(OldForm::read_mark(&mark), Some((form, "rest")));
        }
    }

    #[test]
    fn what_only_begins_like_an_old_hash_is_none() {
        for text in [
            "{SHA}abc",
            "$apr1$",
            "$1$",
            "$apr1$a!b$x",
            "$2b$10$abc",
            "password",
        ] {
            assert_eq!(OldForm::of(text), None, "{text}");
        }
    }

    const VECTORS: &[(&str, &str)] = &[
        ("{SHA}mN7MYuzjmaIu0w1JDvMzvn/ec4U=", "correct horse battery"),
        (
            "$apr1$8zDVtSAY$FOo9ppRa/p7SrDvI7xKxY.",
            "correct horse battery",
        ),
        ("$apr1$ab$oxgQF74Ii96vKJ6O26uvN/", "correct horse battery"),
        (
            "$1$8zDVtSAY$Zm.QrReg.MkLufvJS7S.t1",
            "correct horse battery",
        ),
        ("$1$ab$JPIcyCxjnn15eBNqz2gaM0", "correct horse battery"),
        ("rlBrzAiotJdIw", "correct horse battery"),
        ("./DA5yokVJ1R2", "correct horse battery"),
        ("zZbwUvsNVJ9FY", "correct horse battery"),
        ("{SHA}EfatjsUqKYSrqv18O1FlA3hcIHI=", "x"),
        ("$apr1$8zDVtSAY$y2dHyk1sHhA9RZkP5fBN50", "x"),
        ("$apr1$ab$eIePjsejfBGR8ITtu2z0U1", "x"),
        ("$1$8zDVtSAY$Oe1RSfmchEyp9W1jAn9Do1", "x"),
        ("$1$ab$e2KlfqG5YBMTjSz7XF.Eu1", "x"),
        ("rlbsBDt0Psh0k", "x"),
        ("./7H4fGCYxIHQ", "x"),
        ("zZ7ZiWSxfqAtU", "x"),
        ("{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", ""),
        ("rlFROk.yJKhMM", ""),
        ("./Una9Fi.seRo", ""),
        ("zZO7u0HfQST3A", ""),
        ("{SHA}FG8R/ry6NO0ND4gk1NihsjyEgMc=", "ünï"),
        ("$apr1$8zDVtSAY$F8ftNSTTWIKQEmgcf7xmo.", "ünï"),
        ("$apr1$ab$CCOY4xreR83/Gqv/jQH0c.", "ünï"),
        ("$1$8zDVtSAY$qB4q0U8qpbEECkIu/0i8Y1", "ünï"),
        ("$1$ab$Cuz.0Yb04lcZe8bbsz8hD1", "ünï"),
        ("rlIPtqt8MvFzg", "ünï"),
        ("./ojmFcYkHc1E", "ünï"),
        ("zZQeoyve9JMQY", "ünï"),
        ("rl.3StKT.4T8M", "rasmuslerdorf"),
    ];
}
