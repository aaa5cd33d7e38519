//! Bad input in every operation: refused in the error contract, and nothing is changed.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::answer;
use crate::weather::operations;
use crate::world::World;

/// Texts that have broken programs.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "1e309",
    "99999999999999999999",
    "null",
    "undefined",
    "NaN",
    "true",
    "[]",
    "{}",
    "'",
    "\"",
    "'; DROP TABLE containers; --",
    "\\",
    "%",
    "%s%n",
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "a/b",
    "\0",
    "a\0b",
    "\u{1}\u{1b}[31m",
    "\r\nX-Injected: 1",
    "\u{feff}",
    "\u{202e}",
    "💣",
    "ı",
    "é\u{301}",
    "sha256:",
    "00000000-0000-0000-0000-000000000000",
    "<script>alert(1)</script>",
    "9999-12-31T23:59:60Z",
    "2026-13-45",
    "-271821-04-20T00:00:00Z",
    "image.name",
    "__proto__",
    "constructor",
];

fn text(random: &mut impl Rng) -> String {
    match random.random_range(0..10) {
        0 => "x".repeat(random.random_range(1..1000)),
        1 => (0..random.random_range(1..40))
            .map(|_| random.random::<char>())
            .collect(),
        _ => (*HOSTILE.choose(random).unwrap()).to_owned(),
    }
}

/// A client that is given `.` or `..` between slashes, escaped or not, asks for another path.
fn segment(random: &mut impl Rng) -> String {
    loop {
        let text = text(random);
        if text != "." && text != ".." {
            return text;
        }
    }
}

fn value(random: &mut impl Rng, depth: u32) -> Value {
    match random.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<f64>() * 1e300),
        4 | 5 => json!(text(random)),
        6 => (0..random.random_range(0..4))
            .map(|_| value(random, depth - 1))
            .collect(),
        _ => object(random, depth - 1),
    }
}

/// Field names that the API knows, with anything in them.
fn object(random: &mut impl Rng, depth: u32) -> Value {
    const NAMES: &[&str] = &[
        "action",
        "kind",
        "value",
        "days",
        "snoozeUntil",
        "mode",
        "minAgeDays",
        "backupId",
        "containerIds",
        "username",
        "password",
        "remember",
        "name",
        "scopes",
        "expiresAt",
        "__proto__",
    ];
    let mut fields = serde_json::Map::new();
    for _ in 0..random.random_range(1..6) {
        let name = *NAMES.choose(random).unwrap();
        // Close to right is where mistakes are.
        let field = match (name, random.random_range(0..2)) {
            ("action", 0) => {
                let actions = [
                    "remove-skip",
                    "snooze",
                    "set-maturity-policy",
                    "skip-current",
                ];
                // Complete by themselves but for these.
                fields.insert("days".to_owned(), json!(-1));
                fields.insert("minAgeDays".to_owned(), json!(0.5));
                json!(actions.choose(random))
            }
            ("days" | "minAgeDays", _) => continue,
            ("kind", 0) => json!("tag"),
            ("mode", 0) => json!("mature"),
            _ => value(random, depth),
        };
        fields.insert(name.to_owned(), field);
    }
    fields.into()
}

/// Everything that must not have changed.
async fn picture(world: &World) -> Vec<String> {
    let client = world.database.client().await;
    let mut shown = vec![world.get("/api/v1/containers").await.text];
    for table in ["update_operations", "policies", "backups", "users"] {
        let query = format!(
            "SELECT coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t"
        );
        let digest: String = client.query_one(&query, &[]).await.unwrap().get(0);
        shown.push(format!("{table} {digest}"));
    }
    let tokens: i64 = client
        .query_one("SELECT count(*) FROM api_tokens", &[])
        .await
        .unwrap()
        .get(0);
    shown.push(format!("tokens {tokens}"));
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_in_the_error_contract_and_changes_nothing() {
    let world = World::start().await;
    let image = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &image, &[]).await;
    world.watch(&id).await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let before = picture(&world).await;
    let mut wrong = Vec::new();
    let escaped =
        |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
    for (method, template, operation, described) in operations() {
        // A stream does not end, a wrong password locks the account, and an action that takes no body
        // is done whatever comes along.
        let skipped = [
            "followEvents",
            "login",
            "logout",
            "startContainer",
            "stopContainer",
            "restartContainer",
        ];
        if skipped.contains(&&*operation) {
            continue;
        }
        for round in 0..30 {
            let mut path = String::new();
            for part in template.split('/').skip(1) {
                path.push('/');
                match part.starts_with('{') {
                    // The real one, where a body or a header decides.
                    true if round % 2 == 0
                        && method != Method::GET
                        && method != Method::DELETE
                        && operation != "watchContainer" =>
                    {
                        path.push_str(&id)
                    }
                    true => path.push_str(&escaped(&segment(&mut random))),
                    false => path.push_str(part),
                }
            }
            let documented = described["parameters"].as_array().into_iter().flatten();
            let names: Vec<&str> = documented
                .filter(|p| p["in"] == "query")
                .filter_map(|p| p["name"].as_str())
                // Whether there is such a version or script is found out by the operation.
                .filter(|name| {
                    operation != "updateContainer" || !["version", "script"].contains(name)
                })
                .collect();
            let mut query = String::new();
            for n in 0..random.random_range(0..4) {
                let name = names
                    .choose(&mut random)
                    .map_or_else(|| escaped(&text(&mut random)), |name| (*name).to_owned());
                query.push(if n == 0 { '?' } else { '&' });
                query.push_str(&format!("{name}={}", escaped(&text(&mut random))));
            }
            let broken = ["?%", "?%ff=%ff", "?limit=%zz&&&=", "?a[b][c]=1"];
            if round % 7 == 0 {
                query = (*broken.choose(&mut random).unwrap()).to_owned();
            }
            let mut request = world
                .authorised(method.clone(), &format!("{path}{query}"))
                .timeout(Duration::from_secs(20))
                .header("x-dd-confirm-action", "container-rollback");
            for header in ["idempotency-key", "prefer", "if-none-match", "x-request-id"] {
                if let Ok(value) =
                    reqwest::header::HeaderValue::from_bytes(text(&mut random).as_bytes())
                {
                    request = request.header(header, value);
                }
            }
            let mut body = String::new();
            if method != Method::GET && (operation == "watchContainers" || round % 5 != 0) {
                body = match random.random_range(0..4) {
                    0 => text(&mut random) + "x",
                    1 => value(&mut random, 3).to_string(),
                    _ => object(&mut random, 3).to_string(),
                };
                request = request
                    .header("content-type", "application/json")
                    .body(body.clone());
            }
            let got = answer(request).await;
            // To forget what is not skipped is no change, and neither is to watch everything.
            let harmless = method == Method::GET
                || ["rememberSession", "revealContainerEnvironment"].contains(&&*operation)
                || (operation == "watchContainers" && body == "{}")
                || (operation == "updateContainerPolicy" && body.contains("remove-skip"));
            // Whatever passes for a name is asked for at the registry that it names.
            let elsewhere = operation == "listRegistryTags" && got.status == 502;
            let fine = match got.status {
                200..400 => harmless,
                status if status < 500 || elsewhere => got.json()["error"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                _ => false,
            };
            if !fine {
                wrong.push(format!(
                    "{method} {path}{query} {body:.300}: {} {:.300}",
                    got.status, got.text
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_eq!(picture(&world).await, before, "nothing was changed");
}
