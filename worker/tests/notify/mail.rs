use plimsoll_support::smtp::{Mail, Sink};

use super::*;

fn trigger(sink: &Sink, more: &[(&str, &str)]) -> Trigger {
    let port = sink.port().to_string();
    let mut environment = vec![
        ("DD_TRIGGER_SMTP_X_HOST", "localhost"),
        ("DD_TRIGGER_SMTP_X_PORT", port.as_str()),
        ("DD_TRIGGER_SMTP_X_FROM", "Plimsoll <plimsoll@example.org>"),
        ("DD_TRIGGER_SMTP_X_TO", "ann@example.org, bob@example.org"),
    ];
    environment.extend(more);
    configured(&environment)
}

const TRUSTING: (&str, &str) = ("DD_TRIGGER_SMTP_X_TLS_VERIFY", "false");
const LOGIN: [(&str, &str); 2] = [
    ("DD_TRIGGER_SMTP_X_USER", "me"),
    ("DD_TRIGGER_SMTP_X_PASS", "hunter2"),
];

fn only(sink: &Sink) -> Mail {
    let mails = sink.mails();
    let [mail] = mails.as_slice() else {
        panic!("{} mails", mails.len());
    };
    mail.clone()
}

#[tokio::test]
async fn mail_in_the_clear_arrives_whole() {
    let sink = Sink::plain().await;
    let message = outgoing("New tag\r\nBcc: eve@example.org", "Grüße\n.\nend");
    send(&trigger(&sink, &[]), &message).await.unwrap();
    let mail = only(&sink);
    assert_eq!(mail.from, "plimsoll@example.org");
    assert_eq!(mail.to, ["ann@example.org", "bob@example.org"]);
    assert!(!mail.encrypted);
    assert!(
        mail.data
            .contains("Subject: New tag Bcc: eve@example.org\r\n"),
        "{}",
        mail.data
    );
    assert!(!mail.data.contains("\r\nBcc:"), "{}", mail.data);
    assert!(
        mail.data
            .contains("Message-ID: <00000000-0000-0000-0000-000000000007@plimsoll>")
    );
}

#[tokio::test]
async fn a_connection_changes_to_tls_where_that_is_offered() {
    let sink = Sink::starttls().await;
    let trigger = trigger(&sink, &[TRUSTING, LOGIN[0], LOGIN[1]]);
    send(&trigger, &outgoing("t", "b")).await.unwrap();
    let mail = only(&sink);
    assert!(mail.encrypted);
    assert_eq!(mail.login, Some(("me".to_owned(), "hunter2".to_owned())));
}

#[tokio::test]
async fn a_connection_may_begin_with_tls() {
    let sink = Sink::tls().await;
    let tls = ("DD_TRIGGER_SMTP_X_TLS_ENABLED", "true");
    send(&trigger(&sink, &[TRUSTING, tls]), &outgoing("t", "b"))
        .await
        .unwrap();
    assert!(only(&sink).encrypted);
    // With its certificate checked, as it is unless somebody says otherwise.
    let said = failure(&trigger(&sink, &[tls])).await.why;
    assert!(said.starts_with("localhost:"), "{said}");
    assert_eq!(sink.mails().len(), 1);
}

#[tokio::test]
async fn a_password_is_never_sent_in_the_clear_unasked() {
    let sink = Sink::plain().await;
    failure(&trigger(&sink, &LOGIN)).await;
    assert!(sink.mails().is_empty() && !sink.heard().contains("AUTH"));
    let asked = ("DD_TRIGGER_SMTP_X_TLS_STARTTLS", "never");
    send(
        &trigger(&sink, &[LOGIN[0], LOGIN[1], asked]),
        &outgoing("t", "b"),
    )
    .await
    .unwrap();
    assert_eq!(
        only(&sink).login,
        Some(("me".to_owned(), "hunter2".to_owned()))
    );
}

#[tokio::test]
async fn a_refusal_tells_no_password() {
    let sink = Sink::refusing("535 no, me:hunter2 is wrong").await;
    let asked = ("DD_TRIGGER_SMTP_X_TLS_STARTTLS", "never");
    let said = failure(&trigger(&sink, &[LOGIN[0], LOGIN[1], asked]))
        .await
        .why;
    assert!(!said.contains("hunter2"), "{said}");
}
