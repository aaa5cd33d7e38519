//! What an answer that sends elsewhere means. Redirects are followed by hand, so that credentials
//! stay at their origin and each address is checked.

use http::header;
use reqwest::Response;
use url::Url;

/// What an answer says of where to go.
pub enum Redirect {
    /// It is the answer itself.
    None,
    To(Url),
    /// It names no address, or one that is none.
    Nowhere,
    /// From https to something worse, or to what is not HTTP: never followed.
    Insecure(Url),
}

impl Redirect {
    /// What `response`, the answer to a question to `asked`, says.
    pub fn of(response: &Response, asked: &Url) -> Self {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Self::None;
        }
        let target = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|location| asked.join(location).ok());
        match target {
            None => Self::Nowhere,
            Some(target) => match (asked.scheme(), target.scheme()) {
                (_, "https") | ("http", "http") => Self::To(target),
                _ => Self::Insecure(target),
            },
        }
    }
}
