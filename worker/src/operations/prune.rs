//! Removing the images that updates have replaced, where the trigger asks for it (`prune`).

use std::collections::HashSet;

use plimsoll_domain::image::ImageRef;
use serde_json::Value;

use super::program::Program;
use crate::docker::{EngineError, ListFilter};

impl Program<'_> {
    /// Lets go of the names of images of the same repository that no container uses. An image
    /// goes with its last name: ways back have one of their own, so they stay until they expire.
    /// What cannot be removed is left for the next update.
    pub(super) async fn prune(&self) {
        if let Err(error) = self.prune_repository().await {
            tracing::warn!(%error, operation = %self.operation.id, "old images are left");
        }
    }

    async fn prune_repository(&self) -> Result<(), EngineError> {
        let Ok(target) = ImageRef::parse(&self.operation.target_image) else {
            return Ok(());
        };
        let repository = target.familiar_name();
        let images = self.engine.list_images().await?;
        // Listed after the images: one that is taken into use meanwhile is refused by the engine.
        let containers = self.engine.list(ListFilter::default()).await?;
        let used: HashSet<&str> = containers.iter().map(|one| one.image_id.as_str()).collect();
        for image in images {
            let id = image["Id"].as_str().unwrap_or_default();
            if used.contains(id) {
                continue;
            }
            for name in names_in(&image, &repository) {
                match self.engine.remove_image(&name).await {
                    Ok(()) => tracing::info!(image = name, "removed an image that was replaced"),
                    Err(error) => tracing::debug!(%error, image = name, "an old image is left"),
                }
            }
        }
        Ok(())
    }
}

/// Its tags in the repository, or the digest by which alone it is known there.
fn names_in(image: &Value, repository: &str) -> Vec<String> {
    let names = |key: &str| -> Vec<String> {
        let names = image[key].as_array().into_iter().flatten();
        names
            .filter_map(Value::as_str)
            .filter(|name| !name.starts_with("<none>"))
            .map(str::to_owned)
            .collect()
    };
    let belongs = |name: &String| {
        ImageRef::parse(name).is_ok_and(|reference| reference.familiar_name() == repository)
    };
    let tags = names("RepoTags");
    if tags.is_empty() {
        return names("RepoDigests").into_iter().filter(belongs).collect();
    }
    tags.into_iter().filter(belongs).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_names_of_the_repository_are_let_go() {
        let image = json!({
            "RepoTags": ["localhost:5000/app:1.0.0", "plimsoll-backup/ab:1", "app:1.0.0"],
            "RepoDigests": ["localhost:5000/app@sha256:a"],
        });
        assert_eq!(
            names_in(&image, "localhost:5000/app"),
            ["localhost:5000/app:1.0.0"]
        );
        let digest = format!("localhost:5000/app@sha256:{}", "a".repeat(64));
        let nameless = json!({"RepoTags": ["<none>:<none>"], "RepoDigests": [digest]});
        assert_eq!(names_in(&nameless, "localhost:5000/app"), [digest]);
        assert!(names_in(&json!({"RepoTags": null}), "app").is_empty());
    }
}
