//! The list of what was done, in which operations and removals are alike.

use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, answer};
use crate::world::World;

async fn ask(world: &World, method: Method, path: &str) -> Answer {
    answer(world.authorised(method, &format!("/docksmith/api{path}"))).await
}

/// The page's list and, where there is more, where that begins.
async fn list(world: &World, query: &str) -> (Vec<Value>, Option<String>) {
    let page = ask(world, Method::GET, &format!("/operations?{query}")).await;
    assert_eq!(page.status, 200, "{query}: {}", page.text);
    let page = page.json();
    let data = page["data"].as_array().unwrap().clone();
    assert_eq!(page["count"], data.len(), "{query}");
    let next = page["next_cursor"].as_str().map(str::to_owned);
    assert_eq!(page["has_more"], next.is_some(), "{query}");
    (data, next)
}

/// All of it, page by page.
async fn paged(world: &World, limit: usize) -> Vec<Value> {
    let (mut all, mut next) = list(world, &format!("limit={limit}")).await;
    while let Some(cursor) = next {
        let (page, after) = list(world, &format!("limit={limit}&cursor={cursor}")).await;
        assert!(!page.is_empty(), "what has more has one more");
        all.extend(page);
        next = after;
    }
    all
}

#[tokio::test]
async fn removals_of_containers_are_listed_among_the_operations() {
    let world = World::start().await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let kept = world.docker.name("kept");
    let gone = world.docker.name("gone");
    for name in [&kept, &gone] {
        let id = world.docker.run(name, &reference).await;
        world.listed(&id).await;
    }
    for (method, path, status) in [
        (Method::POST, format!("/containers/{kept}/stop"), 200),
        (Method::POST, format!("/containers/{kept}/start"), 200),
        (Method::DELETE, format!("/containers/{kept}"), 400),
        (Method::POST, format!("/containers/{gone}/restart"), 200),
        (
            Method::DELETE,
            format!("/containers/{gone}?force=true"),
            200,
        ),
        (Method::DELETE, "/containers/nobody".to_owned(), 404),
        // No removal of a container, and so not listed.
        (Method::DELETE, "/networks/nothing".to_owned(), 404),
        (Method::POST, "/prune/networks".to_owned(), 200),
        (Method::POST, format!("/containers/{kept}/stop"), 200),
    ] {
        let done = ask(&world, method, &path).await;
        assert_eq!(done.status, status, "{path}: {}", done.text);
    }

    let (all, _) = list(&world, "").await;
    let shown: Vec<_> = all
        .iter()
        .map(|one| {
            let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
            let fields = ["operation_type", "container_name", "status"].map(text);
            fields.join(" ")
        })
        .collect();
    let expected = [
        format!("stop {kept} complete"),
        "remove nobody failed".to_owned(),
        format!("remove {gone} complete"),
        format!("restart {gone} complete"),
        format!("remove {kept} failed"),
        format!("start {kept} complete"),
        format!("stop {kept} complete"),
    ];
    assert_eq!(shown, expected);
    let removal = &all[2];
    let id = removal["operation_id"].as_str().unwrap();
    let alone = ask(&world, Method::GET, &format!("/operations/{id}")).await;
    assert_eq!(&alone.json()["data"], removal, "it is the same by its id");
    assert!(all[4]["error_message"].as_str().unwrap().contains(&kept));

    for (query, expected) in [
        (format!("container={gone}"), vec![2, 3]),
        (format!("container={kept}&status=failed"), vec![4]),
        ("type=remove".to_owned(), vec![1, 2, 4]),
        ("type=remove&status=complete".to_owned(), vec![2]),
        ("type=stop".to_owned(), vec![0, 6]),
        ("type=update".to_owned(), vec![]),
        ("status=failed".to_owned(), vec![1, 4]),
        ("status=stopping".to_owned(), vec![]),
        ("status=in_progress".to_owned(), vec![]),
        ("type=remove&date_from=2999-01-01".to_owned(), vec![]),
        ("type=remove&date_to=2999-01-01".to_owned(), vec![1, 2, 4]),
        ("type=remove&date_to=2000-01-01".to_owned(), vec![]),
    ] {
        let (found, _) = list(&world, &query).await;
        let expected: Vec<&Value> = expected.into_iter().map(|at| &all[at]).collect();
        assert!(found.iter().eq(expected), "{query}: {found:#?}");
    }

    for limit in 1..=8 {
        assert_eq!(paged(&world, limit).await, all, "pages of {limit}");
    }
    // At one time, the ids alone say what comes after what.
    let database = world.database.client().await;
    for table in ["update_operations", "removals"] {
        let sql = format!("UPDATE {table} SET created_at = '2026-01-02T03:04:05.678901Z'");
        database.execute(&sql, &[]).await.unwrap();
    }
    let (all, _) = list(&world, "").await;
    assert_eq!(all.len(), 7);
    for limit in 1..=8 {
        assert_eq!(paged(&world, limit).await, all, "pages of {limit}");
    }
    let canonical = world.get("/api/v1/update-operations").await.json();
    assert_eq!(canonical["total"], json!(4), "{canonical}");
}
