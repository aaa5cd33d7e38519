//! `dd.link.template`: a link to the notes of a version.

use crate::tag::ParsedTag;

/// Fills in `${original}`, `${transformed}`, `${major}`, `${minor}`, `${patch}`, `${prerelease}`
/// and the older `${raw}`. A placeholder that the tag has no value for becomes empty; an unknown
/// one stays. `None` unless the template is an http(s) URL: links end up in browsers.
pub fn render(template: &str, original: &str, transformed: &str) -> Option<String> {
    if !template.starts_with("https://") && !template.starts_with("http://") {
        return None;
    }
    let parsed = ParsedTag::parse(transformed);
    let part = |index: usize| {
        parsed
            .as_ref()
            .and_then(|tag| tag.parts().get(index))
            .map(u64::to_string)
            .unwrap_or_default()
    };
    let mut out = String::with_capacity(template.len() + original.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        match name {
            "original" | "raw" => out.push_str(original),
            "transformed" => out.push_str(transformed),
            "major" => out.push_str(&part(0)),
            "minor" => out.push_str(&part(1)),
            "patch" => out.push_str(&part(2)),
            "prerelease" => {
                let suffix = parsed.as_ref().map_or("", |tag| tag.suffix());
                out.push_str(suffix.trim_start_matches('-'));
            }
            unknown => {
                out.push_str("${");
                out.push_str(unknown);
                out.push('}');
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in() {
        for (template, tag, transformed, expected) in [
            (
                "https://x/${major}.${minor}.${patch}",
                "v1.2.3",
                "1.2.3",
                "https://x/1.2.3",
            ),
            (
                "https://x/${original}/${transformed}/${raw}",
                "v1",
                "1",
                "https://x/v1/1/v1",
            ),
            (
                "https://x/${prerelease}",
                "1.2.3-rc1",
                "1.2.3-rc1",
                "https://x/rc1",
            ),
            (
                "https://x/${major}/${patch}",
                "latest",
                "latest",
                "https://x//",
            ),
            ("https://x/${what}", "1", "1", "https://x/${what}"),
            ("https://x/${major", "1", "1", "https://x/${major"),
        ] {
            assert_eq!(
                render(template, tag, transformed).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn only_web_links_are_made() {
        assert_eq!(render("javascript:alert(${major})", "1", "1"), None);
        assert_eq!(render("${original}", "https", "https"), None);
    }
}
