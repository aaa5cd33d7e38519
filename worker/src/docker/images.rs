//! Images that are here: look, tag, untag. Pulling is in `pull.rs`.

use http::Method;
use serde_json::Value;

use super::containers::about;
use super::engine::{Engine, deadline, escape};
use super::error::EngineError;

impl Engine {
    /// The engine's own JSON. `reference` is an id (`sha256:…`), a tag, or `repo@sha256:…`.
    pub async fn inspect_image(&self, reference: &str) -> Result<Value, EngineError> {
        let subject = format!("the image {reference}");
        let path = format!("/images/{}/json", escape(reference));
        self.get(&path, about("inspect", &subject), deadline::INSPECT)
            .await
    }

    /// `GET /images/json`, as the engine says it.
    pub async fn list_images(&self) -> Result<Vec<Value>, EngineError> {
        let about = about("list", "its images");
        self.get("/images/json", about, deadline::LIST).await
    }

    /// Gives the image another tag, or moves the tag to it.
    pub async fn tag_image(
        &self,
        reference: &str,
        repository: &str,
        tag: &str,
    ) -> Result<(), EngineError> {
        let subject = format!("the image {reference}");
        let path = format!(
            "/images/{}/tag?repo={}&tag={}",
            escape(reference),
            escape(repository),
            escape(tag)
        );
        let about = about("tag", &subject);
        self.call(Method::POST, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }

    /// Removes a tag, and the image when it was its last one and nothing uses it. Never forced:
    /// an image that a container uses answers `Conflict`. `NotFound` if it is gone.
    pub async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let subject = format!("the image {reference}");
        let path = format!("/images/{}?force=false&noprune=false", escape(reference));
        let about = about("remove", &subject);
        self.call(Method::DELETE, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }
}
