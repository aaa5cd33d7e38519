//! Reads the `curl` lines of the contract documents: as much of curl as they use.

use reqwest::Method;

/// What one line asks.
#[derive(Debug, PartialEq)]
pub(super) struct Curl {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
}

/// The address that the documents' lines are written for.
const ADDRESS: &str = "http://drydock:3000";

impl Curl {
    pub(super) fn parse(line: &str) -> Self {
        let mut words = words(line).into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"), "{line}");
        let (mut method, mut path, mut headers, mut body) = (None, None, Vec::new(), None);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{line}: {word}"));
            match word.as_str() {
                "-X" => method = Some(Method::from_bytes(value().as_bytes()).expect(line)),
                "-H" => {
                    let header = value();
                    let (name, value) = header.split_once(": ").expect(line);
                    headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" => body = Some(value()),
                "-N" => {}
                address => {
                    let rest = address.strip_prefix(ADDRESS);
                    path = Some(rest.unwrap_or_else(|| panic!("{line}: {word}")).to_owned());
                }
            }
        }
        let default = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        Self {
            method: method.unwrap_or(default),
            path: path.expect(line),
            headers,
            body,
        }
    }
}

/// As a shell splits them, without any expansion.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert_eq!(quote, None, "{line}");
    words.extend(word);
    words
}

#[test]
fn lines_are_read_as_curl_reads_them() {
    let line = r#"curl -X PATCH "http://drydock:3000/api/x?a=1&b=2" -H 'Content-Type: application/json' -d '{"a": "b c"}'"#;
    assert_eq!(
        Curl::parse(line),
        Curl {
            method: Method::PATCH,
            path: "/api/x?a=1&b=2".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: Some(r#"{"a": "b c"}"#.to_owned()),
        }
    );
    assert_eq!(
        Curl::parse("curl http://drydock:3000/x -d a").method,
        Method::POST
    );
}
