use std::collections::HashMap;

use poem::http::Method;
use poem_openapi::OpenApi;

/// What the document says of paths: their methods, for the `Allow` header, and the operation that
/// a request is about, before it is routed.
pub struct Routes {
    exact: HashMap<String, Vec<Operation>>,
    /// Those with parameters, by the number of their segments.
    templates: HashMap<usize, Vec<(String, Vec<Operation>)>>,
}

#[derive(Clone)]
struct Operation {
    method: Method,
    id: String,
}

/// The operation that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    pub operation: &'a str,
    /// The path with the names of its parameters.
    pub template: &'a str,
}

impl Routes {
    /// `prefix` is put in front of the operations' ids: two dialects may have the same.
    pub fn of<R: OpenApi>(prefix: &str) -> Self {
        let mut routes = Self {
            exact: HashMap::new(),
            templates: HashMap::new(),
        };
        for path in R::meta().into_iter().flat_map(|api| api.paths) {
            let operations = path.operations.iter().map(|operation| Operation {
                method: operation.method.clone(),
                id: format!("{prefix}{}", operation.operation_id.unwrap_or("unnamed")),
            });
            let operations = operations.collect();
            if path.path.contains('{') {
                let known = routes.templates.entry(segments(&path.path)).or_default();
                known.push((path.path, operations));
            } else {
                routes.exact.insert(path.path, operations);
            }
        }
        routes
    }

    /// A route without parameters hides those with, as it does in the router.
    fn at(&self, path: &str) -> Option<(&str, &[Operation])> {
        if let Some((template, operations)) = self.exact.get_key_value(path) {
            return Some((template, operations));
        }
        let candidates = self.templates.get(&segments(path))?;
        let found = candidates.iter().find(|(known, _)| matches(known, path))?;
        Some((&found.0, &found.1))
    }

    pub fn route(&self, method: &Method, path: &str) -> Option<Route<'_>> {
        let (template, operations) = self.at(path)?;
        let operation = operations.iter().find(|one| one.method == *method)?;
        Some(Route {
            operation: &operation.id,
            template,
        })
    }

    /// Sorted; empty where no route matches.
    pub fn methods(&self, path: &str) -> Vec<String> {
        let operations = self.at(path).map_or(&[][..], |(_, operations)| operations);
        let mut methods: Vec<_> = operations.iter().map(|o| o.method.to_string()).collect();
        if methods.iter().any(|method| method == "GET") {
            methods.push("HEAD".to_owned());
        }
        methods.sort_unstable();
        methods
    }
}

fn segments(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
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
    use crate::drydock::Resources;

    #[test]
    fn parameters_match_one_segment() {
        assert!(matches("/a/{id}/b", "/a/1/b"));
        assert!(!matches("/a/{id}/b", "/a/1/2/b"));
        assert!(!matches("/a/{id}", "/a"));
    }

    #[test]
    fn what_can_be_read_can_be_asked_for_its_head() {
        let routes = Routes::of::<Resources>("");
        assert_eq!(routes.methods("/auth/login"), ["POST"]);
        assert_eq!(routes.methods("/api/v1/app"), ["GET", "HEAD"]);
        assert!(routes.methods("/nowhere").is_empty());
    }

    #[test]
    fn a_request_is_about_one_operation_of_the_document() {
        let routes = Routes::of::<Resources>("");
        let found = routes.route(&Method::POST, "/api/v1/containers/abc/update");
        let expected = Route {
            operation: "updateContainer",
            template: "/api/v1/containers/{id}/update",
        };
        assert_eq!(found, Some(expected));
        assert_eq!(
            routes.route(&Method::PATCH, "/api/v1/containers/abc/update"),
            None
        );
        assert_eq!(routes.route(&Method::GET, "/nowhere"), None);
    }
}
