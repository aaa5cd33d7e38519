//! What an image calls itself (reliability.md S24), and Compose's leftovers (S27).

use serde_json::Value;

/// The digest under which the image (an inspection) was pulled from this repository. An image may
/// have digests of several repositories, in no order; one that was built or imported here has
/// none.
///
/// `repository` is written as the user writes it: `nginx`, `docker.io/library/nginx`,
/// `host:5000/app`.
pub fn repo_digest<'a>(image: &'a Value, repository: &str) -> Option<&'a str> {
    let wanted = full_name(repository);
    image["RepoDigests"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|entry| entry.split_once('@'))
        .find(|(name, _)| full_name(name) == wanted)
        .map(|(_, digest)| digest)
}

/// Docker Hub's names in their one long form.
fn full_name(repository: &str) -> String {
    let name = repository
        .strip_prefix("docker.io/")
        .or_else(|| repository.strip_prefix("index.docker.io/"))
        .unwrap_or(repository);
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((host, _)) if host.contains('.') || host.contains(':') || host == "localhost" => {
            name.to_owned()
        }
        Some(_) => format!("docker.io/{name}"),
    }
}

/// Whether this is what Compose leaves when it is interrupted while it re-creates a container:
/// `<twelve digits of the id>_<name>`, with its labels. Not a candidate, but worth reporting.
pub fn is_compose_leftover(inspect: &Value) -> bool {
    let name = inspect["Name"].as_str().unwrap_or_default();
    let is_compose = inspect["Config"]["Labels"]["com.docker.compose.project"].is_string();
    let Some((prefix, _)) = name.trim_start_matches('/').split_once('_') else {
        return false;
    };
    let is_hex = prefix
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_compose && prefix.len() == 12 && is_hex
}
