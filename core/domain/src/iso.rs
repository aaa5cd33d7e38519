//! Instants in JSON as JavaScript writes them: UTC, exactly three digits of a second, `Z`. The
//! contract's examples have this form, and some clients compare these texts.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serializer};

/// `2021-06-12T05:33:38.440Z`.
pub fn to_string(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

pub fn serialize<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::<Utc>::deserialize(deserializer)
}

/// For `Option<DateTime<Utc>>` fields; pair it with `default` and `skip_serializing_if`.
pub mod option {
    use super::*;

    pub fn serialize<S: Serializer>(
        at: &Option<DateTime<Utc>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<DateTime<Utc>>, D::Error> {
        Option::<DateTime<Utc>>::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_three_digits_of_a_second() {
        let at: DateTime<Utc> = "2021-06-12T05:33:38Z".parse().unwrap();
        assert_eq!(to_string(at), "2021-06-12T05:33:38.000Z");
        let mut out = Vec::new();
        serialize(&at, &mut serde_json::Serializer::new(&mut out)).unwrap();
        assert_eq!(out, b"\"2021-06-12T05:33:38.000Z\"");
    }
}
