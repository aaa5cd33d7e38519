use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use super::{ask, document, operations};
use crate::replica::answer;
use crate::world::World;

#[tokio::test]
async fn every_route_speaks_http_as_documented() {
    let world = World::start().await;
    let document = document();
    let served = answer(world.request(Method::GET, "/api/v1/openapi.json")).await;
    assert_eq!(
        served.json(),
        document,
        "what is served is what is committed"
    );
    assert_eq!(
        answer(world.request(Method::GET, "/api/v1/docs"))
            .await
            .status,
        200
    );
    for (method, path, operation) in operations(&document) {
        let path = path.replace(['{', '}'], "");
        // The alias is the same place.
        if let Some(rest) = path.strip_prefix("/api/v1/")
            && method == "GET"
            && operation["operationId"] != "followEvents"
        {
            let (canonical, alias) = (
                world.get(&path).await,
                world.get(&format!("/api/{rest}")).await,
            );
            assert_eq!(
                (alias.status, alias.text),
                (canonical.status, canonical.text),
                "{path}"
            );
        }
        let Some(_) = operation.get("requestBody") else {
            continue;
        };
        let send = async |kind: &str, body: String| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = world
                .authorised(method, &path)
                .header("content-type", kind)
                .body(body);
            let answer = answer(request).await;
            (answer.status, answer.error())
        };
        let json_only = (415, "Content-Type must be application/json".to_owned());
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
        ] {
            assert_eq!(
                send(kind, "{}".to_owned()).await,
                json_only,
                "{method} {path}"
            );
        }
        let large = send("application/json", " ".repeat(256 * 1024 + 1)).await;
        assert_eq!(large.0, 413, "{method} {path}");
        let malformed = send("application/json", "{\"a\":".to_owned()).await;
        let expected = match operation["operationId"].as_str() {
            _ if path.ends_with("/rollback") => 428,
            // Off here, which is said before anything is read.
            Some("webhookRegistry") => 403,
            _ => 400,
        };
        assert_eq!(malformed.0, expected, "{method} {path}: {}", malformed.1);
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        let mut allowed: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|m| m.to_uppercase())
            .collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD".to_owned());
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if allowed.contains(method) {
                continue;
            }
            let refused = ask(&world, method, &path, &Value::Null).await;
            assert_eq!(refused.status, 405, "{method} {path}: {}", refused.text);
            refused.error();
            let named: BTreeSet<String> = refused
                .header("allow")
                .split(", ")
                .map(str::to_owned)
                .collect();
            assert_eq!(named, allowed, "{method} {path}");
        }
    }
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        for path in [
            "/",
            "/nowhere",
            "/api",
            "/api/",
            "/api/v1",
            "/api/v1/",
            "/api/nowhere",
            "/api/v2/app",
            "/auth",
            "/webhook/watch",
        ] {
            let missing = ask(&world, method, path, &Value::Null).await;
            assert_eq!(missing.status, 404, "{method} {path}");
            if method != "HEAD" {
                assert_eq!(missing.error(), "Route not found", "{method} {path}");
            }
        }
    }
}
