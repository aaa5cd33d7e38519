//! What leaves this machine, and what is believed of the answer.

use std::time::Duration;

use http::{HeaderValue, header};
use plimsoll_outbound::{Answer, Ask, Outbound, OutboundError, Reach, Tls};
use plimsoll_support::hostile::{self, Hostile};
use url::Url;

async fn send(ask: Ask, reach: Reach) -> Result<Answer, OutboundError> {
    plimsoll_support::init();
    Outbound::new(reach, Duration::from_millis(500), Tls::default())
        .send(ask)
        .await
}

fn url(server: &Hostile, path: &str) -> Url {
    Url::parse(&format!("http://{}{path}", server.host())).expect("a URL")
}

fn with_secret(url: Url) -> Ask {
    Ask::get(url).secret(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer hunter2"),
    )
}

#[tokio::test]
async fn credentials_stay_at_their_origin() {
    let stranger = Hostile::start(|_| hostile::Answer::json("{}")).await;
    let elsewhere = url(&stranger, "/there").to_string();
    let home = Hostile::start(move |asked| match asked.path.as_str() {
        "/away" => hostile::Answer::new(302, "").with("location", &elsewhere),
        "/near" => hostile::Answer::new(302, "").with("location", "/end"),
        _ => hostile::Answer::json("{}"),
    })
    .await;
    for path in ["/near", "/away"] {
        let answer = send(with_secret(url(&home, path)), Reach::HOME).await;
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let near = home.received().into_iter().find(|r| r.path == "/end");
    assert_eq!(
        near.expect("followed").header("authorization"),
        Some("Bearer hunter2")
    );
    let away = stranger.received();
    assert_eq!(away.len(), 1);
    assert_eq!(away[0].header("authorization"), None);
}

#[tokio::test]
async fn a_post_is_not_sent_on() {
    let home =
        Hostile::start(|_| hostile::Answer::new(307, "").with("location", "/elsewhere")).await;
    let answer = send(Ask::post(url(&home, "/")).form(&[("a", "b")]), Reach::HOME).await;
    assert_eq!(answer.expect("an answer").status, 307);
    assert_eq!(home.received().len(), 1);
}

#[tokio::test]
async fn limits_end_answers_that_do_not_end() {
    let server = Hostile::start(|asked| match asked.path.as_str() {
        "/large" => hostile::Answer::endless(u64::MAX / 2),
        "/loop" => hostile::Answer::new(302, "").with("location", "/loop"),
        _ => hostile::Answer::silence(),
    })
    .await;
    let large = send(Ask::get(url(&server, "/large")).limit(1000), Reach::HOME).await;
    assert!(
        matches!(large, Err(OutboundError::TooLarge { limit: 1000, .. })),
        "{large:?}"
    );
    let slow = send(Ask::get(url(&server, "/never")), Reach::HOME).await;
    assert!(matches!(slow, Err(OutboundError::Slow { .. })), "{slow:?}");
    let around = send(Ask::get(url(&server, "/loop")), Reach::HOME).await;
    assert!(
        matches!(around, Err(OutboundError::Refused { .. })),
        "{around:?}"
    );
}

#[tokio::test]
async fn addresses_out_of_reach_are_never_connected_to() {
    let server = Hostile::start(|_| hostile::Answer::json("{}")).await;
    let port = server.port();
    for (address, reach) in [
        (format!("http://127.0.0.1:{port}/"), Reach::INTERNET),
        // A name, which is checked when it is resolved.
        (format!("http://localhost:{port}/"), Reach::INTERNET),
        (
            format!("http://localhost:{port}/"),
            Reach::configured(false, true),
        ),
        ("http://169.254.169.254/latest".to_owned(), Reach::HOME),
        ("file:///etc/passwd".to_owned(), Reach::HOME),
    ] {
        let ask = Ask::get(Url::parse(&address).expect("a URL"));
        let refused = send(ask, reach).await;
        assert!(
            matches!(refused, Err(OutboundError::Refused { .. })),
            "{address}: {refused:?}"
        );
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn an_error_does_not_name_the_path() {
    let closed = Url::parse("http://127.0.0.1:9/bot-hunter2/send?token=hunter2").expect("a URL");
    let error = send(Ask::get(closed), Reach::HOME).await.unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("127.0.0.1:9"), "{said}");
}
