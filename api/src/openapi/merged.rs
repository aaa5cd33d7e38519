use std::collections::HashMap;

use poem::{endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    OpenApi,
    registry::{MetaApi, MetaPath, Registry},
};

/// Resources as one API. poem-openapi writes a path of two `impl`s as two equal JSON keys, and
/// whoever parses the document loses the first; it does the same with a status that is in both the
/// success and the error type of a handler.
pub struct Merged<T>(pub T);

impl<T: OpenApi> OpenApi for Merged<T> {
    fn meta() -> Vec<MetaApi> {
        let mut paths: Vec<MetaPath> = Vec::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            match paths.iter_mut().find(|known| known.path == path.path) {
                Some(known) => known.operations.extend(path.operations),
                None => paths.push(path),
            }
        }
        for operation in paths.iter_mut().flat_map(|path| &mut path.operations) {
            let mut seen = Vec::new();
            operation.responses.responses.retain(|response| {
                let first = !seen.contains(&response.status);
                seen.push(response.status);
                first
            });
        }
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        vec![MetaApi { paths }]
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, routes: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        self.0.add_routes(routes);
    }
}
