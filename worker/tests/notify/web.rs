use std::time::Duration;

use plimsoll_runtime::settings::{
    Secret,
    notifiers::{Discord, NotifierKind},
};
use plimsoll_support::hostile::{Answer, Hostile, Received};
use serde_json::{Value, json};

use super::*;

/// What a service answers, and what it must have been asked.
struct Case {
    environment: Vec<(&'static str, String)>,
    answer: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Body,
    receipt: Option<Value>,
}

enum Body {
    Json(Value),
    Form(&'static str),
    None,
}

impl Case {
    fn new(path: &str, environment: &[(&'static str, &str)], body: Value) -> Self {
        Self {
            environment: environment
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            answer: "{}",
            method: "POST",
            path: path.to_owned(),
            headers: vec![("content-type", "application/json")],
            body: Body::Json(body),
            receipt: None,
        }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    async fn check(self) {
        let answer = self.answer;
        let server = Hostile::start(move |_| Answer::json(answer)).await;
        let base = format!("http://{}", server.host());
        let environment: Vec<(&str, String)> = self
            .environment
            .into_iter()
            .map(|(name, value)| (name, value.replace("{base}", &base)))
            .collect();
        let environment: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let trigger = configured(&environment);
        let sent = send(&trigger, &outgoing("New <tag>", "web can go & run")).await;
        assert_eq!(sent, Ok(self.receipt), "{}", self.path);
        let received = server.received();
        let [one] = received.as_slice() else {
            panic!("{}: asked {} times", self.path, received.len());
        };
        assert_eq!(
            (one.method.as_str(), one.path.as_str()),
            (self.method, &*self.path)
        );
        for (name, value) in self.headers {
            assert_eq!(one.header(name), Some(value), "{} {name}", self.path);
        }
        match self.body {
            Body::Json(body) => assert_eq!(json_of(one), body, "{}", self.path),
            Body::Form(body) => assert_eq!(one.body, body, "{}", self.path),
            Body::None => assert_eq!(one.body, "", "{}", self.path),
        }
    }
}

fn json_of(received: &Received) -> Value {
    serde_json::from_str(&received.body).unwrap_or_else(|e| panic!("{}: {e}", received.body))
}

const TITLE: &str = "New <tag>";
const TEXT: &str = "web can go & run";
const ID: &str = "00000000-0000-0000-0000-000000000007";

#[tokio::test]
async fn http_sends_the_container() {
    Case::new(
        "/hook?a=b",
        &[("DD_TRIGGER_HTTP_X_URL", "{base}/hook?a=b")],
        container("web"),
    )
    .header("x-plimsoll-event", "update-available")
    .header("idempotency-key", ID)
    .check()
    .await;
    let basic = [
        ("DD_TRIGGER_HTTP_X_URL", "{base}/"),
        ("DD_TRIGGER_HTTP_X_AUTH_USER", "me"),
        ("DD_TRIGGER_HTTP_X_AUTH_PASSWORD", "hunter2"),
    ];
    Case::new("/", &basic, container("web"))
        .header("authorization", "Basic bWU6aHVudGVyMg==")
        .check()
        .await;
    let get = [
        ("DD_TRIGGER_HTTP_X_URL", "{base}/hook"),
        ("DD_TRIGGER_HTTP_X_METHOD", "GET"),
        ("DD_TRIGGER_HTTP_X_AUTH_TYPE", "BEARER"),
        ("DD_TRIGGER_HTTP_X_AUTH_BEARER", "hunter2"),
    ];
    let id = "a".repeat(64);
    Case {
        method: "GET",
        path: format!(
            "/hook?event=update-available&title=New+%3Ctag%3E&id={id}&name=web&watcher=local\
             &kind=tag&local=1.0.0&remote=1.1.0"
        ),
        headers: vec![("authorization", "Bearer hunter2")],
        body: Body::None,
        ..Case::new("", &get, Value::Null)
    }
    .check()
    .await;
}

#[tokio::test]
async fn a_batch_is_a_list() {
    let server = Hostile::start(|_| Answer::json("{}")).await;
    let url = format!("http://{}/", server.host());
    let trigger = configured(&[("DD_TRIGGER_HTTP_X_URL", &url)]);
    let mut batch = outgoing("t", "b");
    batch.subjects.push(container("db"));
    batch.many = true;
    send(&trigger, &batch).await.unwrap();
    let sent = json_of(&server.received()[0]);
    assert_eq!(sent, json!([container("web"), container("db")]));
}

#[tokio::test]
async fn push_services_get_what_they_document() {
    let ntfy = [
        ("DD_TRIGGER_NTFY_X_URL", "{base}"),
        ("DD_TRIGGER_NTFY_X_TOPIC", "updates"),
        ("DD_TRIGGER_NTFY_X_PRIORITY", "4"),
        ("DD_TRIGGER_NTFY_X_AUTH_TOKEN", "hunter2"),
    ];
    let body = json!({"topic": "updates", "title": TITLE, "message": TEXT, "priority": 4});
    Case::new("/", &ntfy, body)
        .header("authorization", "Bearer hunter2")
        .check()
        .await;
    let gotify = [
        ("DD_TRIGGER_GOTIFY_X_URL", "{base}/sub/"),
        ("DD_TRIGGER_GOTIFY_X_TOKEN", "hunter2"),
        ("DD_TRIGGER_GOTIFY_X_PRIORITY", "5"),
    ];
    let body = json!({"title": TITLE, "message": TEXT, "priority": 5});
    Case::new("/sub/message", &gotify, body)
        .header("x-gotify-key", "hunter2")
        .check()
        .await;
    let pushover = [
        ("DD_TRIGGER_PUSHOVER_X_URL", "{base}"),
        ("DD_TRIGGER_PUSHOVER_X_USER", "user"),
        ("DD_TRIGGER_PUSHOVER_X_TOKEN", "hunter2"),
        ("DD_TRIGGER_PUSHOVER_X_SOUND", "bike"),
        ("DD_TRIGGER_PUSHOVER_X_PRIORITY", "2"),
        ("DD_TRIGGER_PUSHOVER_X_RETRY", "30"),
        ("DD_TRIGGER_PUSHOVER_X_EXPIRE", "60"),
    ];
    Case {
        headers: vec![("content-type", "application/x-www-form-urlencoded")],
        body: Body::Form(
            "token=hunter2&user=user&title=New+%3Ctag%3E&message=web+can+go+%26+run&priority=2\
             &sound=bike&retry=30&expire=60",
        ),
        ..Case::new("/1/messages.json", &pushover, Value::Null)
    }
    .check()
    .await;
    let ifttt = [
        ("DD_TRIGGER_IFTTT_X_URL", "{base}"),
        ("DD_TRIGGER_IFTTT_X_KEY", "hunter2"),
    ];
    let body = json!({
        "value1": "web", "value2": "1.1.0", "value3": container("web").to_string(),
    });
    Case::new("/trigger/dd-image/with/key/hunter2", &ifttt, body)
        .check()
        .await;
    let apprise = [
        ("DD_TRIGGER_APPRISE_X_URL", "{base}"),
        (
            "DD_TRIGGER_APPRISE_X_URLS",
            "mailto://u:hunter2@example.org,json://h",
        ),
    ];
    let body = json!({
        "title": TITLE, "body": TEXT, "format": "text", "type": "info",
        "urls": "mailto://u:hunter2@example.org,json://h",
    });
    Case::new("/notify", &apprise, body).check().await;
    let kept = [
        ("DD_TRIGGER_APPRISE_X_URL", "{base}"),
        ("DD_TRIGGER_APPRISE_X_CONFIG", "mine"),
        ("DD_TRIGGER_APPRISE_X_TAG", "ops"),
    ];
    let body = json!({
        "title": TITLE, "body": TEXT, "format": "text", "type": "info", "tag": "ops",
    });
    Case::new("/notify/mine", &kept, body).check().await;
}

#[tokio::test]
async fn chats_get_what_they_document() {
    let slack = [
        ("DD_TRIGGER_SLACK_X_URL", "{base}/api"),
        ("DD_TRIGGER_SLACK_X_TOKEN", "hunter2"),
        ("DD_TRIGGER_SLACK_X_CHANNEL", "#ops"),
    ];
    let body = json!({
        "channel": "#ops", "text": "*New &lt;tag&gt;*\n\nweb can go &amp; run",
    });
    Case {
        answer: r#"{"ok":true,"channel":"C1","ts":"1.2"}"#,
        receipt: Some(json!({"channel": "C1", "ts": "1.2"})),
        ..Case::new("/api/chat.postMessage", &slack, body)
    }
    .header("authorization", "Bearer hunter2")
    .check()
    .await;
    for (key, text) in [
        (
            "DD_TRIGGER_GOOGLECHAT_X_URL",
            format!("*{TITLE}*\n\n{TEXT}"),
        ),
        (
            "DD_TRIGGER_MATTERMOST_X_URL",
            format!("#### {TITLE}\n\n{TEXT}"),
        ),
    ] {
        let environment = [(key, "{base}/hooks/hunter2")];
        Case::new("/hooks/hunter2", &environment, json!({ "text": text }))
            .check()
            .await;
    }
    let telegram = [
        ("DD_TRIGGER_TELEGRAM_X_URL", "{base}"),
        ("DD_TRIGGER_TELEGRAM_X_BOTTOKEN", "1:hunter2"),
        ("DD_TRIGGER_TELEGRAM_X_CHATID", "-42"),
    ];
    let body = json!({
        "chat_id": "-42", "text": format!("{TITLE}\n\n{TEXT}"),
        "link_preview_options": {"is_disabled": true},
    });
    Case {
        answer: r#"{"ok":true,"result":{"message_id":9}}"#,
        receipt: Some(json!(9)),
        ..Case::new("/bot1:hunter2/sendMessage", &telegram, body)
    }
    .check()
    .await;
    let matrix = [
        ("DD_TRIGGER_MATRIX_X_URL", "{base}"),
        ("DD_TRIGGER_MATRIX_X_ROOMID", "!r:example.org"),
        ("DD_TRIGGER_MATRIX_X_ACCESSTOKEN", "hunter2"),
    ];
    let body = json!({"msgtype": "m.notice", "body": format!("{TITLE}\n\n{TEXT}")});
    let path = format!("/_matrix/client/v3/rooms/!r:example.org/send/m.room.message/{ID}");
    Case {
        method: "PUT",
        answer: r#"{"event_id":"$e"}"#,
        receipt: Some(json!("$e")),
        ..Case::new(&path, &matrix, body)
    }
    .header("authorization", "Bearer hunter2")
    .check()
    .await;
    let rocketchat = [
        ("DD_TRIGGER_ROCKETCHAT_X_URL", "{base}"),
        ("DD_TRIGGER_ROCKETCHAT_X_USER_ID", "u"),
        ("DD_TRIGGER_ROCKETCHAT_X_AUTH_TOKEN", "hunter2"),
        ("DD_TRIGGER_ROCKETCHAT_X_CHANNEL", "#ops"),
    ];
    let body = json!({"channel": "#ops", "text": format!("*{TITLE}*\n{TEXT}")});
    Case::new("/api/v1/chat.postMessage", &rocketchat, body)
        .header("x-user-id", "u")
        .header("x-auth-token", "hunter2")
        .check()
        .await;
}

#[tokio::test]
async fn cards_are_well_formed() {
    let server = Hostile::start(|_| Answer::new(204, "")).await;
    let url = format!("http://{}/api/webhooks/1/hunter2", server.host());
    let trigger = configured(&[("DD_TRIGGER_TEAMS_X_URL", &url)]);
    send(&trigger, &outgoing(TITLE, TEXT)).await.unwrap();
    let card = &json_of(&server.received()[0])["attachments"][0];
    assert_eq!(
        card["contentType"],
        "application/vnd.microsoft.card.adaptive"
    );
    assert_eq!(card["content"]["body"][0]["text"], TITLE);
    assert_eq!(card["content"]["body"][1]["text"], TEXT);

    let discord = Discord {
        url: Some(Secret(url.into())),
        ..Discord::default()
    };
    let trigger = unchecked("discord", NotifierKind::Discord(discord.clone()));
    send(&trigger, &outgoing(TITLE, &"é".repeat(3000)))
        .await
        .unwrap();
    let body = json_of(&server.received()[1]);
    assert_eq!(body["username"], "Plimsoll");
    assert_eq!(body["embeds"][0]["title"], TITLE);
    assert_eq!(body["embeds"][0]["color"], 65280);
    assert_eq!(body["allowed_mentions"], json!({"parse": []}));
    let text = body["embeds"][0]["description"].as_str().unwrap();
    assert_eq!(text.chars().count(), 2000);
    assert!(text.ends_with('…'));

    let labelled = Discord {
        cardlabel: Some("Container".to_owned()),
        ..discord
    };
    let trigger = unchecked("discord", NotifierKind::Discord(labelled));
    send(&trigger, &outgoing(TITLE, TEXT)).await.unwrap();
    let body = json_of(&server.received()[2]);
    let fields = json!([{"name": "Container", "value": TEXT}]);
    assert_eq!(body["embeds"][0]["fields"], fields);
}

#[tokio::test]
async fn long_texts_are_cut_to_what_the_service_takes() {
    let server = Hostile::start(|_| Answer::json(r#"{"ok":true}"#)).await;
    let base = format!("http://{}", server.host());
    let telegram = configured(&[
        ("DD_TRIGGER_TELEGRAM_X_URL", &base),
        ("DD_TRIGGER_TELEGRAM_X_BOTTOKEN", "t"),
        ("DD_TRIGGER_TELEGRAM_X_CHATID", "1"),
    ]);
    let ntfy = configured(&[
        ("DD_TRIGGER_NTFY_X_URL", &base),
        ("DD_TRIGGER_NTFY_X_TOPIC", "t"),
    ]);
    let long = outgoing("t", &"é".repeat(9000));
    send(&telegram, &long).await.unwrap();
    send(&ntfy, &long).await.unwrap();
    let received = server.received();
    let text = json_of(&received[0])["text"].as_str().unwrap().to_owned();
    assert_eq!(text.chars().count(), 4096);
    let text = json_of(&received[1])["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(text.len() <= 4096 && text.len() > 4090, "{}", text.len());
}

#[tokio::test]
async fn messages_are_taken_back() {
    let server = Hostile::start(|_| Answer::json(r#"{"ok":true}"#)).await;
    let base = format!("http://{}", server.host());
    let slack = configured(&[
        ("DD_TRIGGER_SLACK_X_URL", &base),
        ("DD_TRIGGER_SLACK_X_TOKEN", "t"),
        ("DD_TRIGGER_SLACK_X_CHANNEL", "c"),
    ]);
    let receipt = json!({"channel": "C1", "ts": "1.2"});
    slack.notifier().take_back(&receipt).await.unwrap();
    let telegram = configured(&[
        ("DD_TRIGGER_TELEGRAM_X_URL", &base),
        ("DD_TRIGGER_TELEGRAM_X_BOTTOKEN", "t"),
        ("DD_TRIGGER_TELEGRAM_X_CHATID", "1"),
    ]);
    telegram.notifier().take_back(&json!(9)).await.unwrap();
    let received = server.received();
    assert_eq!(received[0].path, "/chat.delete");
    assert_eq!(json_of(&received[0]), receipt);
    assert_eq!(received[1].path, "/bott/deleteMessage");
    assert_eq!(
        json_of(&received[1]),
        json!({"chat_id": "1", "message_id": 9})
    );
}

#[tokio::test]
async fn a_service_that_is_busy_says_for_how_long() {
    let server = Hostile::start(|asked| match asked.path.as_str() {
        "/header" => Answer::new(429, "").with("retry-after", "120"),
        "/body" => Answer::new(429, r#"{"parameters":{"retry_after":90}}"#),
        "/greedy" => Answer::new(503, "").with("retry-after", "99999999"),
        _ => Answer::new(500, "down"),
    })
    .await;
    for (path, seconds) in [
        ("/header", Some(120)),
        ("/body", Some(90)),
        ("/greedy", Some(3600)),
        ("/other", None),
    ] {
        let url = format!("http://{}{path}", server.host());
        let trigger = configured(&[("DD_TRIGGER_HTTP_X_URL", &url)]);
        let failed = failure(&trigger).await;
        assert_eq!(
            failed.again_after,
            seconds.map(Duration::from_secs),
            "{path}"
        );
    }
}

#[tokio::test]
async fn failures_tell_no_secret() {
    // A service that repeats everything it was told.
    let server = Hostile::start(|asked| {
        let echo = format!("{} {:?} {}", asked.path, asked.headers, asked.body);
        Answer::new(418, echo)
    })
    .await;
    let base = format!("http://{}", server.host());
    let hook = format!("{base}/services/hunter2hunter2");
    for environment in [
        vec![("DD_TRIGGER_MATTERMOST_X_URL", hook.as_str())],
        vec![("DD_TRIGGER_TEAMS_X_URL", hook.as_str())],
        vec![("DD_TRIGGER_HTTP_X_URL", hook.as_str())],
        vec![
            ("DD_TRIGGER_TELEGRAM_X_URL", base.as_str()),
            ("DD_TRIGGER_TELEGRAM_X_BOTTOKEN", "hunter2hunter2"),
            ("DD_TRIGGER_TELEGRAM_X_CHATID", "1"),
        ],
        vec![
            ("DD_TRIGGER_SLACK_X_URL", base.as_str()),
            ("DD_TRIGGER_SLACK_X_TOKEN", "hunter2hunter2"),
            ("DD_TRIGGER_SLACK_X_CHANNEL", "1"),
        ],
        vec![
            ("DD_TRIGGER_PUSHOVER_X_URL", base.as_str()),
            ("DD_TRIGGER_PUSHOVER_X_USER", "hunter2hunter2"),
            ("DD_TRIGGER_PUSHOVER_X_TOKEN", "hunter2hunter2"),
        ],
        vec![
            ("DD_TRIGGER_APPRISE_X_URL", base.as_str()),
            ("DD_TRIGGER_APPRISE_X_URLS", "json://hunter2hunter2"),
        ],
    ] {
        let said = failure(&configured(&environment)).await.why;
        assert!(!said.contains("hunter2"), "{environment:?}: {said}");
        assert!(said.contains("418"), "{said}");
    }
}

#[tokio::test]
async fn a_no_within_a_200_is_a_no() {
    let server = Hostile::start(|_| {
        Answer::json(r#"{"ok":false,"success":false,"error":"channel_not_found"}"#)
    })
    .await;
    let base = format!("http://{}", server.host());
    for environment in [
        vec![
            ("DD_TRIGGER_SLACK_X_URL", base.as_str()),
            ("DD_TRIGGER_SLACK_X_TOKEN", "t"),
            ("DD_TRIGGER_SLACK_X_CHANNEL", "1"),
        ],
        vec![
            ("DD_TRIGGER_ROCKETCHAT_X_URL", base.as_str()),
            ("DD_TRIGGER_ROCKETCHAT_X_USER_ID", "u"),
            ("DD_TRIGGER_ROCKETCHAT_X_AUTH_TOKEN", "t"),
            ("DD_TRIGGER_ROCKETCHAT_X_CHANNEL", "c"),
        ],
    ] {
        let said = failure(&configured(&environment)).await.why;
        assert!(said.contains("channel_not_found"), "{said}");
    }
}
