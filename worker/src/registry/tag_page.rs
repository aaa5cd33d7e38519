//! One page of a repository's tags, read without a value tree: each tag goes from the body into the
//! list.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    error::excerpt,
    tags::TagList,
    transport::{Reply, is_html},
};

/// Adds the tags of `reply` to `list`. The error says what it is instead of a page.
pub(super) fn parse_page(reply: &Reply, list: &mut TagList) -> Result<(), String> {
    if is_html(reply) {
        return Err("a web page; is this a registry, or something in front of it?".to_owned());
    }
    let mut json = serde_json::Deserializer::from_slice(&reply.body);
    Page(list)
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|error| format!("no list of tags ({})", excerpt(&error.to_string())))
}

/// `{"name":…,"tags":[…]}`.
struct Page<'l>(&'l mut TagList);

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `tags`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "tags" {
                map.next_value_seed(Tags(self.0))?;
                found = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found {
            Ok(())
        } else {
            Err(de::Error::missing_field("tags"))
        }
    }
}

struct Tags<'l>(&'l mut TagList);

impl<'de> DeserializeSeed<'de> for Tags<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tags<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tags, or null")
    }

    /// What a registry says about a repository whose tags were all deleted.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Push(self.0))?.is_some() {}
        Ok(())
    }
}

struct Push<'l>(&'l mut TagList);

impl<'de> DeserializeSeed<'de> for Push<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Push<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag")
    }

    fn visit_str<E>(self, tag: &str) -> Result<(), E> {
        self.0.push(tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    #[test]
    fn pages_are_lists_of_tags_or_null_and_nothing_else() {
        let check = |body: &str| {
            let mut list = TagList::empty();
            parse_page(
                &Reply {
                    status: StatusCode::OK,
                    headers: HeaderMap::new(),
                    body: body.as_bytes().to_vec(),
                },
                &mut list,
            )
            .map(|()| list.iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let ok = |tags: &[&str]| Ok(tags.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(
            check(r#"{"name":"a","tags":["1.0","lat\u0065st"]}"#),
            ok(&["1.0", "latest"])
        );
        assert_eq!(check(r#"{"tags":null,"name":"a"}"#), ok(&[]));
        assert_eq!(check(r#"{"tags":["ok","","-x","a b","é"]}"#), ok(&["ok"]));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"tags":5}"#,
            r#"{"tags":[1]}"#,
            r#"{"tags":[]} x"#,
            "<html>",
            r#"{"tags":["#,
        ] {
            assert!(check(body).is_err(), "{body}");
        }
    }
}
