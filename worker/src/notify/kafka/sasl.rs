//! Logging in: PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677).

use std::num::NonZeroU32;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use plimsoll_runtime::settings::notifiers::KafkaLogin;
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{
    error::{Trouble, check},
    wire::{Api, Connection, Fields, Reader},
};

/// Rounds that a broker may ask for. Fewer would make the password easy to guess for whoever
/// listens, more would keep us busy.
const ROUNDS: std::ops::RangeInclusive<u32> = 4096..=200_000;

pub struct Login {
    pub mechanism: KafkaLogin,
    pub user: String,
    pub password: SecretString,
}

impl Login {
    pub async fn perform(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let mut wanted = Fields::default();
        wanted.text(self.mechanism.as_str());
        let answer = connection.ask(Api::SaslHandshake, &wanted.0).await?;
        match Reader(&answer).i16()? {
            33 => {
                let mechanism = self.mechanism.as_str();
                return Err(Trouble::Login(format!("it does not know {mechanism}")));
            }
            code => check(code)?,
        }
        let algorithm = match self.mechanism {
            KafkaLogin::Plain => {
                let password = self.password.expose_secret();
                let words = format!("\0{}\0{password}", self.user);
                return say(connection, words.as_bytes()).await.map(drop);
            }
            KafkaLogin::ScramSha256 => &SHA256,
            KafkaLogin::ScramSha512 => &SHA512,
        };
        let nonce = Uuid::new_v4().simple().to_string();
        let scram = Scram::begin(algorithm, &self.user, &nonce);
        let challenge = say(connection, scram.first().as_bytes()).await?;
        let answer = scram.answer(&challenge, &self.password)?;
        let proof = say(connection, answer.words.as_bytes()).await?;
        answer.verify(&proof)
    }
}

/// One step; the broker's words.
async fn say(connection: &mut Connection, words: &[u8]) -> Result<Vec<u8>, Trouble> {
    let mut body = Fields::default();
    body.bytes(words);
    let answer = connection.ask(Api::SaslAuthenticate, &body.0).await?;
    let mut answer = Reader(&answer);
    let code = answer.i16()?;
    // What it says more may repeat what we said.
    answer.text()?;
    match code {
        58 => Err(Trouble::Login("it refused our credentials".to_owned())),
        code => check(code).and_then(|()| Ok(answer.bytes()?.to_vec())),
    }
}

struct Algorithm {
    hmac: &'static hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: &'static pbkdf2::Algorithm,
}

static SHA256: Algorithm = Algorithm {
    hmac: &hmac::HMAC_SHA256,
    digest: &digest::SHA256,
    pbkdf2: &pbkdf2::PBKDF2_HMAC_SHA256,
};
static SHA512: Algorithm = Algorithm {
    hmac: &hmac::HMAC_SHA512,
    digest: &digest::SHA512,
    pbkdf2: &pbkdf2::PBKDF2_HMAC_SHA512,
};

struct Scram<'a> {
    algorithm: &'static Algorithm,
    nonce: &'a str,
    /// The first message without its header.
    bare: String,
}

impl<'a> Scram<'a> {
    fn begin(algorithm: &'static Algorithm, user: &str, nonce: &'a str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self {
            algorithm,
            nonce,
            bare: format!("n={user},r={nonce}"),
        }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    fn answer(&self, challenge: &[u8], password: &SecretString) -> Result<Answer, Trouble> {
        let odd = || Trouble::Login("its challenge is none of SCRAM".to_owned());
        let challenge = std::str::from_utf8(challenge).map_err(|_| odd())?;
        let field = |name: &str| {
            challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name))
        };
        let nonce = field("r=").filter(|nonce| {
            // Ours and more of its own: otherwise somebody repeats what was said to another.
            nonce.starts_with(self.nonce) && nonce.len() > self.nonce.len()
        });
        let nonce = nonce.ok_or_else(odd)?;
        let salt = field("s=").and_then(|salt| BASE64_STANDARD.decode(salt).ok());
        let salt = salt.ok_or_else(odd)?;
        let rounds: u32 = field("i=").and_then(|i| i.parse().ok()).ok_or_else(odd)?;
        let rounds = NonZeroU32::new(rounds).filter(|rounds| ROUNDS.contains(&rounds.get()));
        let rounds = rounds.ok_or_else(|| {
            Trouble::Login("it asks for too few or too many rounds of SCRAM".to_owned())
        })?;

        let Algorithm {
            hmac,
            digest,
            pbkdf2,
        } = self.algorithm;
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(**hmac, key), text);
        let mut salted = vec![0; digest.output_len()];
        let password = password.expose_secret().as_bytes();
        pbkdf2::derive(**pbkdf2, rounds, &salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(digest, client_key.as_ref());
        let unproven = format!("c=biws,r={nonce}");
        let all = format!("{},{challenge},{unproven}", self.bare);
        let signature = sign(stored_key.as_ref(), all.as_bytes());
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        let server_key = sign(&salted, b"Server Key");
        Ok(Answer {
            words: format!("{unproven},p={}", BASE64_STANDARD.encode(proof)),
            expected: sign(server_key.as_ref(), all.as_bytes()).as_ref().to_vec(),
        })
    }
}

struct Answer {
    words: String,
    /// What only somebody who knows the password's keys can say.
    expected: Vec<u8>,
}

impl Answer {
    fn verify(&self, proof: &[u8]) -> Result<(), Trouble> {
        let text = std::str::from_utf8(proof).unwrap_or_default();
        let said = text.split(',').find_map(|part| part.strip_prefix("v="));
        let said = said.and_then(|said| BASE64_STANDARD.decode(said).ok());
        let is_it = said.is_some_and(|said| said.ct_eq(&self.expected).into());
        match is_it {
            true => Ok(()),
            false => Err(Trouble::Login("it cannot show that it knows us".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_exchange_is_that_of_the_standard() {
        let scram = Scram::begin(&SHA256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let password = SecretString::from("pencil");
        let answer = scram.answer(challenge.as_bytes(), &password).unwrap();
        assert_eq!(
            answer.words,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        answer.verify(proof).unwrap();
        for wrong in [
            &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..],
            b"",
            b"e=x",
        ] {
            answer.verify(wrong).unwrap_err();
        }
        for wrong in [
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000",
            "r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096",
            "",
        ] {
            assert!(
                scram.answer(wrong.as_bytes(), &password).is_err(),
                "{wrong}"
            );
        }
    }
}
