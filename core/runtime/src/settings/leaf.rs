//! How single values are read from text and shown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use plimsoll_domain::security::{SbomFormat, Severity};
use secrecy::{ExposeSecret, SecretString};

use super::names::{Entry, Kind, Segment};

/// A part of the configuration tree: a value, a section, or a map from names to sections.
pub trait Setting {
    /// Adds one entry for every value below. `path` leads here, `doc` is the field's comment.
    fn describe(&self, path: &[Segment], doc: &'static str, out: &mut Vec<Entry>);

    /// Sets the value that `path` leads to.
    ///
    /// # Errors
    /// What is wrong with the value, for people, without naming the setting.
    fn set(&mut self, path: &[String], value: &str) -> Result<(), String>;
}

/// One value.
pub trait Leaf: Sized {
    /// What may be written, for the reference.
    const SYNTAX: &'static str;
    const SECRET: bool = false;

    fn parse(text: &str) -> Result<Self, String>;

    /// As [`Leaf::parse`] would read it; for the default in the reference.
    fn show(&self) -> String;
}

impl<T: Leaf> Setting for T {
    fn describe(&self, path: &[Segment], doc: &'static str, out: &mut Vec<Entry>) {
        out.push(Entry {
            path: path.to_vec(),
            doc,
            kind: Kind::Value {
                syntax: T::SYNTAX,
                default: self.show(),
                secret: T::SECRET,
            },
        });
    }

    fn set(&mut self, path: &[String], value: &str) -> Result<(), String> {
        debug_assert!(path.is_empty(), "a value has nothing below it");
        *self = T::parse(value.trim())?;
        Ok(())
    }
}

impl<T: Setting + Default> Setting for BTreeMap<String, T> {
    fn describe(&self, path: &[Segment], _doc: &'static str, out: &mut Vec<Entry>) {
        let mut path = path.to_vec();
        let depth = path.iter().filter(|s| **s == Segment::Name).count();
        path.push(Segment::Name);
        if path.first() != Some(&Segment::Fixed("registry")) || depth == 1 {
            out.push(Entry {
                path: path.clone(),
                doc: "",
                kind: Kind::Instance,
            });
        }
        T::default().describe(&path, "", out);
    }

    fn set(&mut self, path: &[String], value: &str) -> Result<(), String> {
        let (name, rest) = path.split_first().ok_or("a name is missing")?;
        let section = self.entry(name.clone()).or_default();
        if rest.is_empty() {
            // An empty value creates the section with its defaults.
            return Ok(());
        }
        section.set(rest, value)
    }
}

impl<T: Leaf> Leaf for Option<T> {
    const SYNTAX: &'static str = T::SYNTAX;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::parse(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

impl Leaf for bool {
    const SYNTAX: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! from_str {
    ($($type:ty: $syntax:literal, $what:literal;)+) => { $(
        impl Leaf for $type {
            const SYNTAX: &'static str = $syntax;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!(concat!("{:?} is not ", $what), text))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+ };
}

from_str! {
    u16: "a number", "a number from 0 to 65535";
    i32: "a number", "a whole number";
    u32: "a number", "a whole number, or it is negative or too large";
    SocketAddr: "`address:port`", "an address and a port, such as 127.0.0.1:3000 or [::]:3000";
    String: "text", "text";
}

impl Leaf for PathBuf {
    const SYNTAX: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".into());
        }
        Ok(text.into())
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// A span of time, written as milliseconds or with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl Millis {
    pub const fn new(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl Leaf for Millis {
    const SYNTAX: &'static str = "milliseconds, or with a unit: `10s`, `5m`";

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(milliseconds) = text.parse() {
            return Ok(Self::new(milliseconds));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("{text:?} is neither milliseconds nor a span such as 10s"))
    }

    fn show(&self) -> String {
        self.0.as_millis().to_string()
    }
}

/// A value that is never printed.
#[derive(Clone)]
pub struct Secret(pub SecretString);

impl Leaf for Secret {
    const SYNTAX: &'static str = "text, secret";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.into()))
    }

    fn show(&self) -> String {
        "***".into()
    }
}

impl Secret {
    pub fn is_empty(&self) -> bool {
        self.0.expose_secret().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Deref for Secret {
    type Target = SecretString;

    fn deref(&self) -> &SecretString {
        &self.0
    }
}

/// Values from a closed list.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl $crate::settings::leaf::Leaf for $name {
            const SYNTAX: &'static str = concat!("one of", $(" `", $text, "`"),+);

            fn parse(text: &str) -> Result<Self, String> {
                [$(Self::$variant),+]
                    .into_iter()
                    .find(|one| one.as_str().eq_ignore_ascii_case(text))
                    .ok_or_else(|| format!("{text:?} is not {}", Self::SYNTAX.replace('`', "")))
            }

            fn show(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}
pub(crate) use choice;

/// How many reverse proxies stand before us and may say who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustProxy {
    /// Forwarding headers are ignored.
    None,
    /// The address that many hops from the right in `X-Forwarded-For` is the client.
    Hops(u8),
}

impl Leaf for TrustProxy {
    const SYNTAX: &'static str = "`false`, `true` (one proxy), or the number of proxies";

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "" | "false" | "0" => Ok(Self::None),
            "true" => Ok(Self::Hops(1)),
            number => number
                .parse()
                .map(Self::Hops)
                .map_err(|_| format!("{text:?} is neither true, false nor a number of proxies")),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "false".into(),
            Self::Hops(hops) => hops.to_string(),
        }
    }
}

/// A schedule in cron's five fields (or six, with seconds first).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron(String);

impl Cron {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Leaf for Cron {
    const SYNTAX: &'static str = "a cron expression";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<croner::Cron>()
            .map_err(|error| format!("{text:?} is not a cron expression: {error}"))?;
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// How bad a vulnerability must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Severities(pub Vec<Severity>);

impl Leaf for Severities {
    const SYNTAX: &'static str =
        "`critical`, `high`, `medium`, `low` and `unknown`, with commas; or `none`";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.eq_ignore_ascii_case("none") {
            return Ok(Self(Vec::new()));
        }
        text.split(',')
            .map(|word| {
                let word = word.trim();
                word.parse()
                    .map_err(|()| format!("{word:?} is not a severity"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn show(&self) -> String {
        match self.0.as_slice() {
            [] => "none".into(),
            some => some
                .iter()
                .map(|severity| severity.as_str().to_ascii_lowercase())
                .collect::<Vec<_>>()
                .join(","),
        }
    }
}

/// Formats of a bill of materials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbomFormats(pub Vec<SbomFormat>);

impl Leaf for SbomFormats {
    const SYNTAX: &'static str = "`spdx-json` and `cyclonedx-json`, with a comma";

    fn parse(text: &str) -> Result<Self, String> {
        let mut formats: Vec<SbomFormat> = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| {
                SbomFormat::parse(&word.to_ascii_lowercase())
                    .ok_or_else(|| format!("{word:?} is neither spdx-json nor cyclonedx-json"))
            })
            .collect::<Result<_, _>>()?;
        formats.sort_unstable();
        formats.dedup();
        match formats.is_empty() {
            true => Err("at least one format is needed".to_owned()),
            false => Ok(Self(formats)),
        }
    }

    fn show(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|format| format.as_str()).collect();
        names.join(",")
    }
}

impl Leaf for chrono_tz::Tz {
    const SYNTAX: &'static str = "a time zone such as `Europe/Oslo`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("{text:?} is not a time zone of the IANA database"))
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }
}
