//! What an engine runs, and which of an index's images runs best there.

use std::fmt;

/// What an image is built for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    pub os: String,
    /// In Go's words: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    /// From what Docker says about an engine or an image: `x86_64` and `aarch64` are understood,
    /// and an empty variant is none.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, implied) = match architecture.as_str() {
            "x86_64" | "x86-64" => ("amd64", None),
            "i386" | "i686" => ("386", None),
            "aarch64" => ("arm64", None),
            "armv7l" | "armhf" => ("arm", Some("v7")),
            "armv6l" | "armel" => ("arm", Some("v6")),
            other => (other, None),
        };
        Self {
            os: os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant
                .filter(|variant| !variant.is_empty())
                .or(implied)
                .map(str::to_ascii_lowercase),
        }
    }

    /// How well an image for `offered` runs here: more is better, `None` not at all. A smaller
    /// variant of the same architecture runs on a larger one.
    pub(super) fn fit(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let level = |platform: &Self| {
            let default = match platform.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            };
            match platform.variant.as_deref() {
                None => Some(default),
                Some(variant) => variant.strip_prefix('v')?.parse::<u32>().ok(),
            }
        };
        match (level(self), level(offered)) {
            (Some(here), Some(there)) => (there <= here).then_some(there),
            _ => (self.variant == offered.variant).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}
