//! What an image's labels say about its version. Hostile text: good for showing and for guessing
//! which tag to look at first, never for deciding.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::ParsedTag;
use crate::image::is_tag;

/// The version that an image says of itself in its labels: OCI's, LinuxServer's, or a plain
/// `version`. `None` unless it could be a tag and reads as a version.
pub fn labelled_version(labels: &BTreeMap<String, String>) -> Option<Cow<'_, str>> {
    [
        "org.opencontainers.image.version",
        "build_version",
        "version",
    ]
    .iter()
    .filter_map(|key| labels.get(*key))
    .map(|text| linuxserver(text.trim()))
    .find(|text| is_tag(text) && ParsedTag::parse(text).is_some())
    .map(Cow::Borrowed)
}

/// `Linuxserver.io version:- 4.0.9-ls291 Build-date:- 2024-01-01T00:00:00+00:00`
fn linuxserver(text: &str) -> &str {
    match text.split_once("version:-") {
        Some((_, rest)) => rest.split_whitespace().next().unwrap_or_default(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_labels() {
        let read = |pairs: &[(&str, &str)]| {
            let labels: BTreeMap<String, String> = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            labelled_version(&labels).map(Cow::into_owned)
        };
        let oci = "org.opencontainers.image.version";
        let lsio = "Linuxserver.io version:- 4.0.9-ls291 Build-date:- 2024-01-01T00:00:00+00:00";
        assert_eq!(read(&[(oci, " 1.2.3 ")]).as_deref(), Some("1.2.3"));
        assert_eq!(
            read(&[("build_version", lsio)]).as_deref(),
            Some("4.0.9-ls291")
        );
        assert_eq!(read(&[("version", "v2.0")]).as_deref(), Some("v2.0"));
        assert_eq!(
            read(&[(oci, "1.0.0"), ("version", "2.0")]).as_deref(),
            Some("1.0.0")
        );
        // What says nothing about the version does not hide one that does.
        assert_eq!(
            read(&[(oci, "latest"), ("version", "2.0")]).as_deref(),
            Some("2.0")
        );
        assert_eq!(read(&[(oci, "1.2.3 (build 7)")]), None);
        assert_eq!(read(&[("build_version", "version:-")]), None);
        assert_eq!(read(&[]), None);
    }
}
