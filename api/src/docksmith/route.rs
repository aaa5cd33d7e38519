//! What is known of a request by its path alone.

use poem::http::{Method, Uri};

/// Where the dialect is at the main listener.
pub const PREFIX: &str = "/docksmith";

/// Paths whose last parameter may contain slashes, such as `ghcr.io/linuxserver/plex`.
pub const TAILS: &[&str] = &["/api/registry/tags/"];

/// GET, and yet something changes: registries are asked and results written. By the operations' ids,
/// as metrics name them.
pub const CHANGING: &[&str] = &["docksmith.checkContainers", "docksmith.recheckContainer"];

/// The path below [`PREFIX`], if it is below it.
pub fn below_prefix(path: &str) -> Option<&str> {
    match path.strip_prefix(PREFIX)? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

/// The address that the router understands: `path` of it, with a tail as one segment. Neither the
/// router nor OpenAPI know parameters that contain slashes.
pub fn canonical(uri: &Uri, path: &str) -> Option<Uri> {
    let tail = TAILS.iter().find_map(|before| {
        let tail = path.strip_prefix(before)?;
        Some(format!("{before}{}", tail.replace('/', "%2F")))
    });
    let path = tail.as_deref().unwrap_or(path);
    if path == uri.path() {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    // What was a valid path stays one.
    path_and_query.parse().ok()
}

/// Whether an operation, by its id, changes something.
pub fn changes(method: &Method, operation: &str) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || CHANGING.contains(&operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_ends_at_a_slash() {
        assert_eq!(below_prefix("/docksmith/api/status"), Some("/api/status"));
        assert_eq!(below_prefix("/docksmith"), Some("/"));
        assert_eq!(below_prefix("/docksmithy/api"), None);
        assert_eq!(below_prefix("/api/status"), None);
    }

    #[test]
    fn a_tail_is_one_segment() {
        let to = |path: &str| {
            let uri: Uri = format!("/docksmith{path}").parse().unwrap();
            canonical(&uri, path.split('?').next().unwrap()).map(|uri| uri.to_string())
        };
        assert_eq!(
            to("/api/registry/tags/ghcr.io/linuxserver/plex?limit=1").as_deref(),
            Some("/api/registry/tags/ghcr.io%2Flinuxserver%2Fplex?limit=1")
        );
        assert_eq!(
            to("/api/registry/tags/nginx").as_deref(),
            Some("/api/registry/tags/nginx")
        );
        assert_eq!(to("/api/status").as_deref(), Some("/api/status"));
    }

    #[test]
    fn some_reading_changes_something() {
        assert!(changes(&Method::GET, "docksmith.checkContainers"));
        assert!(changes(&Method::POST, "unmatched"));
        assert!(!changes(&Method::GET, "docksmith.getStatus"));
    }
}
