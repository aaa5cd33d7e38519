use poem_openapi::OpenApi;

use crate::drydock;

/// Which methods a path has, for the `Allow` header.
pub struct Routes(Vec<(String, Vec<String>)>);

impl Routes {
    pub fn of_drydock() -> Self {
        let paths = <drydock::Resources as OpenApi>::meta()
            .into_iter()
            .flat_map(|api| api.paths);
        Self(
            paths
                .map(|path| {
                    let methods = path.operations.iter().map(|o| o.method.to_string());
                    (path.path, methods.collect())
                })
                .collect(),
        )
    }

    /// Sorted; empty where no route matches. A route without parameters hides those with, as it
    /// does in the router.
    pub fn methods(&self, path: &str) -> Vec<String> {
        let exact = self.0.iter().find(|(template, _)| template == path);
        let found = exact.or_else(|| self.0.iter().find(|(template, _)| matches(template, path)));
        let mut methods = found
            .map(|(_, methods)| methods.clone())
            .unwrap_or_default();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        methods.sort_unstable();
        methods
    }
}

fn matches(template: &str, path: &str) -> bool {
    let mut template = template.split('/');
    let mut path = path.split('/');
    loop {
        match (template.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given || part.starts_with('{') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_match_one_segment() {
        assert!(matches("/a/{id}/b", "/a/1/b"));
        assert!(!matches("/a/{id}/b", "/a/1/2/b"));
        assert!(!matches("/a/{id}", "/a"));
    }

    #[test]
    fn what_can_be_read_can_be_asked_for_its_head() {
        let routes = Routes::of_drydock();
        assert_eq!(routes.methods("/auth/login"), ["POST"]);
        assert_eq!(routes.methods("/api/v1/app"), ["GET", "HEAD"]);
        assert!(routes.methods("/nowhere").is_empty());
    }
}
