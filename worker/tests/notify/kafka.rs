use std::collections::BTreeSet;

use plimsoll_support::kafka::{Cluster, Gate, Login, Rules};

use super::*;

fn trigger(brokers: &str, more: &[(&str, &str)]) -> Trigger {
    let mut environment = vec![
        ("DD_TRIGGER_KAFKA_X_BROKERS", brokers),
        ("DD_TRIGGER_KAFKA_X_TOPIC", "updates"),
    ];
    environment.extend(more);
    configured(&environment)
}

const LOGIN: [(&str, &str); 2] = [
    ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_USER", "me"),
    ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_PASSWORD", "hunter2"),
];

fn value(record: &Value) -> Value {
    serde_json::from_str(record["payload"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn each_container_is_a_record_and_each_broker_gets_what_it_leads() {
    let cluster = Cluster::start(3).await;
    let mut message = outgoing("t", "b");
    message.subjects = (0..40).map(|n| container(&format!("c{n}"))).collect();
    message.many = true;
    let trigger = trigger(cluster.brokers(), &[]);
    send(&trigger, &message).await.unwrap();
    let records = cluster.read("updates").await;
    let of =
        |name: &str| BTreeSet::from_iter(records.iter().map(|record| record[name].to_string()));
    assert_eq!(records.len(), 40);
    assert_eq!(of("key").len(), 40);
    assert!(of("partition").len() > 1, "{:?}", of("partition"));
    let first = records
        .iter()
        .find(|record| record["key"] == "local/c7")
        .unwrap();
    assert_eq!(value(first), container("c7"));
    let headers = json!(["event", "update-available", "id", message.id.to_string()]);
    assert_eq!(first["headers"], headers);

    // The same container goes where it went before.
    send(&trigger, &message).await.unwrap();
    let again = cluster.read("updates").await;
    assert_eq!(again.len(), 80);
    let places = again
        .iter()
        .map(|record| (record["key"].to_string(), record["partition"].to_string()));
    assert_eq!(BTreeSet::from_iter(places).len(), 40);
}

#[tokio::test]
async fn a_broker_that_is_away_is_passed_over() {
    let cluster = Cluster::start(1).await;
    let nobody = "127.0.0.1:1";
    let brokers = format!("{nobody}, {}", cluster.brokers());
    send(&trigger(&brokers, &[]), &outgoing("t", "b"))
        .await
        .unwrap();
    assert_eq!(cluster.read("updates").await.len(), 1);
    let said = failure(&trigger(nobody, &[])).await;
    assert!(
        said.why.contains("127.0.0.1: ") && !said.is_final,
        "{said:?}"
    );
}

#[tokio::test]
async fn more_than_a_portion_arrives_in_several() {
    let cluster = Cluster::start(1).await;
    let gate = Gate::clear(&cluster, Rules::default()).await;
    let mut message = outgoing("t", "b");
    message.subjects = (0..30)
        .map(|n| {
            let mut container = container(&format!("c{n}"));
            container["note"] = "x".repeat(40_000).into();
            container
        })
        .collect();
    message.many = true;
    send(&trigger(&gate.broker(), &[]), &message).await.unwrap();
    assert_eq!(cluster.read("updates").await.len(), 30);
    assert_eq!(gate.written(), 3);
}

#[tokio::test]
async fn a_login_is_asked_for_and_its_refusal_tells_no_password() {
    let cluster = Cluster::start(1).await;
    let plain = Rules {
        login: Some(Login::Plain("me", "hunter2")),
        ..Rules::default()
    };
    let gate = Gate::clear(&cluster, plain).await;
    let with = |more: &[(&str, &str)]| trigger(&gate.broker(), more);
    send(&with(&LOGIN), &outgoing("t", "b")).await.unwrap();
    assert_eq!(cluster.read("updates").await.len(), 1);
    let wrong = [
        LOGIN[0],
        ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_PASSWORD", "hunter3"),
    ];
    let said = failure(&with(&wrong)).await;
    assert!(
        said.why.contains("credentials") && !said.why.contains("hunter"),
        "{said:?}"
    );
    assert!(!said.is_final, "the password may be set right");
    let scram = ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_TYPE", "SCRAM-SHA-512");
    let said = failure(&with(&[LOGIN[0], LOGIN[1], scram])).await.why;
    assert!(said.contains("does not know SCRAM-SHA-512"), "{said}");
    failure(&with(&[])).await;
    assert_eq!(gate.written(), 1);
}

#[tokio::test]
async fn a_password_need_not_be_said() {
    let cluster = Cluster::start(1).await;
    let scram = Rules {
        login: Some(Login::Scram("me", "hunter2")),
        ..Rules::default()
    };
    let gate = Gate::clear(&cluster, scram).await;
    let with = |password: &'static str| {
        let login = [
            LOGIN[0],
            ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_PASSWORD", password),
            ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_TYPE", "scram-sha-512"),
        ];
        trigger(&gate.broker(), &login)
    };
    send(&with("hunter2"), &outgoing("t", "b")).await.unwrap();
    assert_eq!(cluster.read("updates").await.len(), 1);
    let said = failure(&with("hunter3")).await.why;
    assert!(said.contains("credentials"), "{said}");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_password() {
    let cluster = Cluster::start(1).await;
    let gate = Gate::tls(&cluster, Rules::default()).await;
    let tls = ("DD_TRIGGER_KAFKA_X_SSL", "true");
    let said = failure(&trigger(&gate.broker(), &[LOGIN[0], LOGIN[1], tls]))
        .await
        .why;
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    assert_eq!(gate.written(), 0);
}

#[tokio::test]
async fn a_leader_that_has_moved_is_looked_for_and_a_refusal_for_good_is_final() {
    let cluster = Cluster::start(1).await;
    let refusing = async |code: i16, times: usize| {
        let refuse = Some((code, times));
        Gate::clear(
            &cluster,
            Rules {
                refuse,
                ..Rules::default()
            },
        )
        .await
    };
    let moved = refusing(6, 2).await;
    send(&trigger(&moved.broker(), &[]), &outgoing("t", "b"))
        .await
        .unwrap();
    assert_eq!(moved.written(), 3);
    for (code, name, is_final) in [
        (10, "MESSAGE_TOO_LARGE", true),
        (29, "TOPIC_AUTHORIZATION_FAILED", false),
        (19, "NOT_ENOUGH_REPLICAS", false),
        (1234, "error 1234", false),
    ] {
        let gate = refusing(code, 1).await;
        let said = failure(&trigger(&gate.broker(), &[])).await;
        assert!(said.why.contains(name), "{said:?}");
        assert_eq!((said.is_final, gate.written()), (is_final, 1), "{name}");
    }
}

#[tokio::test]
async fn what_speaks_no_kafka_harms_nobody() {
    use plimsoll_support::hostile::{Answer, Hostile};
    let server = Hostile::start(|_| Answer::json("{}")).await;
    let said = failure(&trigger(&server.host(), &[])).await;
    assert!(!said.why.is_empty() && !said.is_final, "{said:?}");
}
