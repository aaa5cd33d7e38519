//! The document's examples about several containers of a stack and its file, and what is told of it
//! meanwhile.

use plimsoll_support::image::Image;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    compose_batch::Stack,
    fleet::{PATIENCE, text},
    replica::{Answer, answer},
};

/// One of the event stream.
#[derive(Debug)]
struct Frame {
    event: String,
    id: String,
    data: Value,
}

impl Frame {
    fn read(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            found.unwrap_or_default().to_owned()
        };
        Some(Self {
            event: field("event"),
            id: field("id"),
            data: serde_json::from_str(&field("data")).ok()?,
        })
    }

    /// What stays the same however often it is told.
    fn told(&self) -> (&str, &str, &Value, &Value, &Value) {
        let payload = &self.data["payload"];
        (
            &self.event,
            &self.id,
            &payload["operation_id"],
            &payload["stage"],
            &payload["message"],
        )
    }
}

/// The frames up to the one that is waited for, without comments.
async fn frames(mut stream: reqwest::Response, last: impl Fn(&Frame) -> bool) -> Vec<Frame> {
    let mut text = String::new();
    let mut all = Vec::new();
    while !all.iter().any(&last) {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
        let chunk = chunk.expect("an event comes").expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk.expect("it is open")).unwrap());
        while let Some((frame, rest)) = text.split_once("\n\n") {
            all.extend(Frame::read(frame));
            text = rest.to_owned();
        }
    }
    all
}

struct Docksmith {
    stack: Stack,
    http: reqwest::Client,
}

impl Docksmith {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = self.stack.fleet.apis[0].url(&format!("/docksmith/api{path}"));
        self.http.request(method, url)
    }

    async fn get(&self, path: &str) -> Value {
        data(&answer(self.request(Method::GET, path)).await)
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        let request = self.request(Method::POST, path);
        answer(request.body(body.to_string())).await
    }

    /// One operation, or several as one, once it is over.
    async fn ended(&self, id: &str) -> Value {
        wait::until("the operation to end", PATIENCE, async || {
            let operation = self.get(&format!("/operations/{id}")).await;
            operation["completed_at"].is_string().then_some(operation)
        })
        .await
    }

    async fn publish(&self, version: &str) {
        let fleet = &self.stack.fleet;
        // Something to fetch, so that there is something to tell.
        let image = |version: &str| Image::app(version).file("data", version.repeat(20_000));
        fleet.publish("app", version, image(version)).await;
        let db = format!("{version}-db");
        fleet.publish("db", version, image(&db)).await;
    }

    /// The update of `web` and `db`, as a page and as a script ask for it.
    async fn update(&self, version: &str) -> Value {
        let (web, db) = (self.stack.name("web"), self.stack.name("db"));
        self.publish(version).await;
        for name in [&web, &db] {
            self.stack.fleet.watched(name).await;
        }
        let of_web = json!({"name": web, "target_version": version, "stack": "shop", "force": false,
                            "change_type": 2});
        let body = json!({"containers": [of_web, db, "nobody"]});
        let started = data(&self.post("/update/batch", body).await);
        assert_eq!(started["status"], "started");
        let [accepted, refused] = &started["operations"].as_array().unwrap()[..] else {
            panic!("one stack, and one that is not there: {started:#}");
        };
        assert_eq!(accepted["stack"], self.stack.project.as_str());
        assert_eq!(accepted["containers"], json!([db, web]));
        assert_eq!(refused["containers"], json!(["nobody"]));
        assert!(refused["error"].is_string() && refused.get("operation_id").is_none());
        started
    }

    async fn runs(&self, service: &str) -> String {
        let name = self.stack.name(service);
        let found = self.stack.fleet.docker.inspect(&name).await;
        let config = found.and_then(|found| found.config);
        let image = config.and_then(|config| config.image).unwrap_or_default();
        image.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

fn data(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_updated_undone_and_mended_as_the_document_says() {
    let stack = Stack::up().await;
    let directory = stack.file.parent().unwrap().display().to_string();
    let worker = stack.fleet.worker("local");
    let _worker = worker
        .env("PLIMSOLL_COMPOSE_DIRECTORIES", directory)
        .spawn();
    let docksmith = Docksmith {
        stack,
        http: reqwest::Client::new(),
    };
    let stack = &docksmith.stack;
    let (web, db, proxy) = (stack.name("web"), stack.name("db"), stack.name("proxy"));
    let original = stack.text();
    stack.fleet.listed(&proxy).await;
    let events = docksmith.request(Method::GET, "/events?named=1");
    let events = events.send().await.unwrap();

    // -d '{"containers":[…]}'
    let started = docksmith.update("1.1.0").await;
    let batch = text(&started, "batch_group_id");
    let group = text(&started["operations"][0], "operation_id");
    let one = docksmith.ended(&group).await;
    for (field, expected) in [
        ("operation_id", json!(group)),
        ("batch_group_id", json!(batch)),
        ("operation_type", json!("update")),
        ("status", json!("complete")),
        ("stack_name", json!(stack.project)),
        ("container_name", json!(format!("{db}, {web}"))),
        ("dependents_affected", json!([proxy])),
        ("rollback_occurred", json!(false)),
    ] {
        assert_eq!(one[field], expected, "{field}: {one:#}");
    }
    let details = one["batch_details"].as_array().unwrap();
    assert_eq!(details.len(), 3, "{one:#}");
    assert_eq!(
        (&details[0]["container_name"], &details[0]["new_version"]),
        (&json!(db), &json!("1.1.0"))
    );
    let together = docksmith.get(&format!("/operations/group/{batch}")).await;
    assert_eq!(together["count"], 3);
    assert_eq!(
        docksmith.get(&format!("/operations/group/{group}")).await,
        together
    );
    let members = together["operations"].as_array().unwrap();
    assert!(
        members
            .iter()
            .all(|one| one["batch_group_id"] == batch.as_str())
    );
    let listed = docksmith.get(&format!("/operations?container={web}")).await;
    assert_eq!(listed[0], members[1]);
    let own = text(&members[1], "operation_id");
    assert_eq!(
        docksmith.get(&format!("/operations/{own}")).await,
        members[1]
    );
    assert!(stack.text().contains("app:1.1.0 # the shop"));

    // What was told meanwhile, and again to whoever missed it.
    let is_last = |frame: &Frame| {
        let payload = &frame.data["payload"];
        frame.event == "container.updated" && payload["operation_id"] == own.as_str()
    };
    let heard = frames(events, is_last).await;
    assert_eq!(
        (heard[0].event.as_str(), &heard[0].data["status"]),
        ("connected", &json!("connected"))
    );
    let later = &heard[1..];
    assert!(
        later
            .iter()
            .all(|frame| frame.data["type"] == frame.event.as_str())
    );
    let pull = later.iter().find(|frame| {
        let payload = &frame.data["payload"];
        payload["stage"] == "pulling_image" && payload["container"] == web.as_str()
    });
    let pull = &pull.expect("the pull is told").data["payload"];
    assert_eq!(pull["percent"], pull["progress"]);
    let percent = pull["percent"].as_u64().unwrap_or_default();
    assert!((30..=60).contains(&percent), "{pull}");
    let message = text(pull, "message");
    assert!(
        message.starts_with("Pulling ") && message.ends_with("app:1.1.0"),
        "{message}"
    );
    let missed = docksmith.request(Method::GET, "/events?named=1");
    let missed = missed.header("last-event-id", &heard[0].id);
    let again = frames(missed.send().await.unwrap(), is_last).await;
    let known = |all: &[Frame]| {
        let all = all.iter().map(|frame| format!("{:?}", frame.told()));
        all.collect::<Vec<_>>()
    };
    assert_eq!(known(&again[1..]), known(later));

    // Of all of it only `web`.
    let names = |answer: &Value| {
        let all = answer["operations"].as_array().unwrap().iter();
        all.map(|one| text(one, "container")).collect::<Vec<_>>()
    };
    let nobody = json!({"operation_id": batch, "container_names": ["nobody"]});
    let nobody = docksmith.post("/rollback/containers", nobody).await;
    assert_eq!(nobody.status, 404, "{}", nobody.text);
    let body = json!({"operation_id": batch, "container_names": [web], "force": true});
    let back = data(&docksmith.post("/rollback/containers", body).await);
    assert_eq!(names(&back), std::slice::from_ref(&web));
    assert_eq!(back["original_operation_id"], batch.as_str());
    let ended = docksmith.ended(&text(&back, "operation_id")).await;
    assert_eq!(ended["status"], "complete", "{ended:#}");
    assert_eq!(
        (docksmith.runs("web").await, docksmith.runs("db").await),
        ("1.0.0".to_owned(), "1.1.0".to_owned())
    );

    // All of it, the last first.
    let started = docksmith.update("1.2.0").await;
    let group = text(&started["operations"][0], "operation_id");
    docksmith.ended(&group).await;
    let back = json!({"operation_id": group});
    let back = data(&docksmith.post("/rollback", back).await);
    assert_eq!(names(&back), [web.clone(), db.clone()]);
    for one in back["operations"].as_array().unwrap() {
        let ended = docksmith.ended(&text(one, "operation_id")).await;
        assert_eq!(ended["status"], "complete", "{ended:#}");
    }
    assert_eq!(
        (docksmith.runs("web").await, docksmith.runs("db").await),
        ("1.0.0".to_owned(), "1.1.0".to_owned())
    );
    let expected = original.replace("db:1.0.0", "db:1.1.0");
    assert_eq!(stack.text(), expected, "the file goes back with them");

    // Somebody edits the file alone.
    let edited = expected.replace("app:1.0.0 # the shop", "app:1.1.0 # the shop");
    std::fs::write(&stack.file, &edited).unwrap();
    let item = wait::until("the mismatch", PATIENCE, async || {
        let item = docksmith.get(&format!("/container/{web}/recheck")).await;
        (item["status"] == "COMPOSE_MISMATCH").then_some(item)
    })
    .await;
    let (running, wanted) = (text(&item, "image"), text(&item, "compose_image"));
    assert!(
        running.ends_with("app:1.0.0") && wanted.ends_with("app:1.1.0"),
        "{item:#}"
    );
    let error = format!("Running image ({running}) differs from compose specification ({wanted})");
    assert_eq!(item["error"], error.as_str());
    let fix = async |name: &str| {
        let path = format!("/fix-compose-mismatch/{name}");
        answer(docksmith.request(Method::POST, &path)).await
    };
    let fixed = data(&fix(&web).await);
    assert_eq!(fixed["container_name"], web.as_str());
    let ended = docksmith.ended(&text(&fixed, "operation_id")).await;
    assert_eq!(ended["status"], "complete", "{ended:#}");
    assert_eq!(docksmith.runs("web").await, "1.1.0");
    assert_eq!(stack.text(), edited);

    // The same image by a variable, and a label that the container does not have.
    assert_eq!(
        (&item["env_controlled"], &item["labels_out_of_sync"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(item["compose_labels"]["dd.update.stability"], "1");
    let stability = "dd.update.stability: '1'";
    let labelled = edited
        .replacen(
            stability,
            &format!("docksmith.ignore: 'true', {stability}"),
            1,
        )
        .replace("app:1.1.0 # the shop", "app:${SHOP_TAG:-1.0.0} # the shop");
    let variables = stack.file.with_file_name(".env");
    std::fs::write(&variables, "SHOP_TAG=1.1.0\n").unwrap();
    std::fs::write(&stack.file, &labelled).unwrap();
    let item = wait::until("the label", PATIENCE, async || {
        let item = docksmith.get(&format!("/container/{web}/recheck")).await;
        (item["labels_out_of_sync"] == true).then_some(item)
    })
    .await;
    assert_eq!(item["compose_labels"]["docksmith.ignore"], "true");
    assert_eq!(item["labels"]["docksmith.ignore"], Value::Null);
    assert_eq!(item["compose_image"], Value::Null, "the same image");
    assert_eq!(
        (&item["env_controlled"], &item["env_var_name"]),
        (&json!(true), &json!("SHOP_TAG"))
    );
    std::fs::write(&stack.file, &edited).unwrap();

    // Its errors are words.
    let db_line = edited.lines().find(|line| line.contains("/db:1.1.0"));
    let built = edited.replace(db_line.unwrap(), "    build: .");
    std::fs::write(&stack.file, &built).unwrap();
    let none = "failed to extract image from compose file: no image key found for service db";
    for (name, status, message) in [
        (db.as_str(), 500, Some(none)),
        (web.as_str(), 400, None),
        ("nobody", 404, Some("Container not found: nobody")),
    ] {
        let refused = fix(name).await;
        let json = refused.json();
        assert_eq!(refused.status, status, "{}", refused.text);
        assert_eq!(json["success"], false);
        let error = json["error"].as_str().expect("words alone");
        assert!(message.is_none_or(|message| message == error), "{error}");
    }
    assert_eq!(docksmith.runs("db").await, "1.1.0");
}
