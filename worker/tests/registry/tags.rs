//! Listing tags, well and badly paged.

use std::time::Duration;

use plimsoll_support::{image::Image, registry::Registry};
use plimsoll_worker::registry::{Extent, RegistryError};

use crate::{
    cached, failures,
    hostile::{Answer, Hostile, tag_page},
    now, registries, repository, words,
};

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_real_registry_cost_one_request() {
    let registry = Registry::start().await;
    registry
        .push_tags("team/app", &["1.0.0", "1.1.0", "latest"], &Image::app("1"))
        .await;
    let before = registry.requests().len();
    let registries = registries(vec![], None);
    let app = repository(&registry.reference("team/app", "1.0.0"));
    let list = registries.tags(&app, now()).await.expect("a list of tags");
    let mut tags = words(&list);
    tags.sort_unstable();
    assert_eq!(tags, ["1.0.0", "1.1.0", "latest"]);
    assert_eq!(list.extent(), Extent::Complete);
    assert_eq!(registry.requests().len() - before, 1);

    let missing = repository(&registry.reference("team/other", "1"));
    let error = registries
        .tags(&missing, now())
        .await
        .expect_err("it is not there");
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("team/other"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_asks_once_per_repository_and_at_most_ten_at_a_time() {
    let slow = Duration::from_millis(20);
    let server = Hostile::start(move |_| tag_page(["1.0.0", "1.0.1"]).after(slow)).await;
    let registries = registries(vec![], None);
    let repositories = (0..100).flat_map(|n| {
        // Three containers of each.
        let one = repository(&format!("{}/team/app{n}:1.0.0", server.host()));
        [one.clone(), one.clone(), one]
    });
    let results = registries.tags_many(repositories, cached(60)).await;
    assert_eq!(results.len(), 100);
    assert!(failures(&results).is_empty());
    let mut paths = server.paths();
    assert_eq!(paths.len(), 100);
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 100);
    let most = server.most_at_once();
    assert!((2..=10).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_by_link_on_the_same_server() {
    let server = Hostile::start(|request| match request.path.as_str() {
        "/v2/team/app/tags/list?n=1000" => tag_page(["1", "2"]).with(
            "link",
            r#"</v2/team/app/tags/list?last=2&n=1000>; rel="next""#,
        ),
        "/v2/team/app/tags/list?last=2&n=1000" => tag_page(["3"]).with(
            "Link",
            r#"</v2/team/app/tags/list?last=3&n=1000>; rel="next""#,
        ),
        "/v2/team/app/tags/list?last=3&n=1000" => tag_page(["4"]),
        _ => Answer::new(404, ""),
    })
    .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("three pages");
    assert_eq!(words(&list), ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_the_page_size_is_asked_without() {
    let server = Hostile::start(|request| {
        if request.path.contains("n=") {
            let body = r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID","message":"n"}]}"#;
            Answer::new(400, body)
        } else {
            tag_page(["1"])
        }
    })
    .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("a list of tags");
    assert_eq!(words(&list), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_on_another_server_is_not_fetched() {
    let other = Hostile::start(|_| tag_page(["666"])).await;
    let target = format!("http://{}/v2/team/app/tags/list", other.host());
    let server =
        Hostile::start(move |_| tag_page(["1"]).with("link", &format!("<{target}>; rel=next")))
            .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let error = registries
        .tags(&app, now())
        .await
        .expect_err("not followed");
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
    assert!(other.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_pages_ends_with_a_list_that_says_it_was_cut() {
    let server = Hostile::start(|_| {
        tag_page(["1"]).with("link", "</v2/team/app/tags/list?n=1000>; rel=next")
    })
    .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("one page");
    assert_eq!(list.extent(), Extent::Truncated);
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_end_are_cut_at_a_limit() {
    let server = Hostile::start(|request| {
        let last = request.path.rsplit('=').next().unwrap_or_default();
        let next = last.parse::<u64>().unwrap_or(0) + 1;
        tag_page(["1"]).with(
            "link",
            &format!("</v2/team/app/tags/list?last={next}>; rel=next"),
        )
    })
    .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("many pages");
    assert_eq!(list.extent(), Extent::Truncated);
    assert!(server.received().len() <= 1_100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_tags_are_a_list_like_any_other() {
    let tags: Vec<String> = (0..100_000).map(|n| format!("1.{}.{n}", n % 7)).collect();
    let body = serde_json::json!({"name": "x", "tags": tags}).to_string();
    let server = Hostile::start(move |_| Answer::json(body.clone())).await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("a long list");
    assert_eq!(list.len(), 100_000);
    assert_eq!(list.extent(), Extent::Complete);
    assert_eq!(list.iter().last(), Some("1.4.99999"));
}
