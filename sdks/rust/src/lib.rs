//! A typed client of Plimsoll's HTTP API: [`connect`], the operations in [`apis`], and
//! [`follow`] for what happens.

// Generated.
#[allow(clippy::all, unused_imports, rustdoc::all)]
#[rustfmt::skip]
pub mod apis;
#[allow(clippy::all, unused_imports, rustdoc::all)]
#[rustfmt::skip]
pub mod models;

mod events;

pub use apis::configuration::Configuration;
pub use events::{Event, Refused, follow};

/// A client of the Plimsoll at `url` (without a path of the API) that presents an API token from
/// `POST /api/v1/tokens`.
pub fn connect(url: &str, token: &str) -> reqwest::Result<Configuration> {
    // A program that chose its own cryptography keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(Configuration {
        base_path: url.trim_end_matches('/').to_owned(),
        user_agent: Some(concat!("plimsoll-client/", env!("CARGO_PKG_VERSION")).to_owned()),
        client: reqwest::Client::builder().build()?,
        bearer_access_token: Some(token.to_owned()),
        ..Configuration::default()
    })
}

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Plimsoll refused it, and said why.
    #[error("{}: {reason}", status.as_u16())]
    Refused {
        status: reqwest::StatusCode,
        reason: String,
    },
    /// Plimsoll was not reached, or its answer is not one of the API.
    #[error("{0}")]
    Broken(String),
}

/// What a successful answer holds; otherwise what went wrong.
pub fn must<T, E>(
    answer: Result<apis::ResponseContent<T>, apis::Error<E>>,
) -> Result<T, Failed> {
    match answer {
        Ok(answer) => answer
            .entity
            .ok_or_else(|| Failed::Broken(format!("{}: {}", answer.status, answer.content))),
        Err(apis::Error::ResponseError(answer)) => {
            let said = serde_json::from_str::<models::Error>(&answer.content);
            Err(Failed::Refused {
                status: answer.status,
                reason: said.map_or(answer.content, |said| said.error),
            })
        }
        Err(error) => Err(Failed::Broken(error.to_string())),
    }
}
