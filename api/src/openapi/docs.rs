//! Interactive documentation without any asset from elsewhere.
//!
//! poem-openapi carries Swagger UI, but only as one page with everything inline, which our content
//! policy forbids: the page is taken apart once, on first use.

use std::sync::OnceLock;

use bytes::Bytes;
use poem::{
    Endpoint, Response, Route,
    endpoint::make_sync,
    get,
    http::{StatusCode, header},
};
use poem_openapi::OpenApiService;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Plimsoll API</title>
<link rel="stylesheet" href="/api/v1/docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="/api/v1/docs/swagger-ui.js"></script>
<script src="/api/v1/docs/start.js"></script>
</body>
</html>
"#;

const START: &str = "SwaggerUIBundle({dom_id: '#ui', url: '/api/v1/openapi.json', \
                     deepLinking: true, validatorUrl: null});\n";

/// Swagger UI writes style attributes and inlines its icons as data.
const POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; \
                      style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'";

struct Assets {
    style: Bytes,
    script: Bytes,
}

fn assets() -> &'static Assets {
    static ASSETS: OnceLock<Assets> = OnceLock::new();
    ASSETS.get_or_init(|| {
        let page = OpenApiService::new((), "", "").swagger_ui_html();
        let part = |open: &str, close: &str| {
            let rest = page.split_once(open).map_or("", |(_, rest)| rest);
            let end = rest.find(close).unwrap_or(rest.len());
            Bytes::copy_from_slice(&rest.as_bytes()[..end])
        };
        Assets {
            style: part("<style charset=\"UTF-8\">", "</style>"),
            script: part("<script charset=\"UTF-8\">", "</script>"),
        }
    })
}

/// Adds `/api/v1/docs` and what the page loads.
pub fn mount(route: Route) -> Route {
    let page = || Bytes::from_static(PAGE.as_bytes());
    let start = || Bytes::from_static(START.as_bytes());
    let style = || assets().style.clone();
    let script = || assets().script.clone();
    route
        .at("/api/v1/docs", get(serve("text/html; charset=utf-8", page)))
        .at("/api/v1/docs/swagger-ui.css", get(serve("text/css", style)))
        .at(
            "/api/v1/docs/swagger-ui.js",
            get(serve("text/javascript", script)),
        )
        .at(
            "/api/v1/docs/start.js",
            get(serve("text/javascript", start)),
        )
}

fn serve(
    content_type: &'static str,
    body: impl Fn() -> Bytes + Send + Sync + 'static,
) -> impl Endpoint<Output = Response> {
    make_sync(move |_| {
        Response::builder()
            .status(StatusCode::OK)
            .content_type(content_type)
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::CACHE_CONTROL, "max-age=3600")
            .body(body())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_complete_without_the_internet() {
        assert!(assets().style.len() > 10_000);
        assert!(assets().script.len() > 100_000);
        assert!(!PAGE.contains("://"));
        assert!(!START.contains("://"));
    }
}
