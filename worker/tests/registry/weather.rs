//! Bad weather: registries that are down, slow, lying or somebody else.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use plimsoll_support::ports::free_port;
use plimsoll_worker::registry::RegistryError;
use tokio_stream::StreamExt;

use crate::{
    cached,
    hostile::{Answer, Hostile, tag_page},
    now, registries, repository, settings, words,
};

async fn error_of(server: &Hostile) -> RegistryError {
    let app = repository(&format!("{}/team/app:1", server.host()));
    let registries = registries(vec![], None);
    registries.tags(&app, now()).await.expect_err("bad weather")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_is_no_list_of_tags() {
    let server = Hostile::start(|_| {
        Answer::new(200, "<!DOCTYPE html><title>Sign in</title>").with("content-type", "text/html")
    })
    .await;
    let error = error_of(&server).await;
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("web page") && text.contains("team/app"),
        "{text}"
    );
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_a_clear_error() {
    for body in [
        "",
        "{}",
        "null",
        "{\"tags\":[1,2]}",
        "\u{0}\u{1}",
        "{\"tags\":[\"1\"",
    ] {
        let server = Hostile::start(move |_| Answer::json(body)).await;
        let error = error_of(&server).await;
        assert!(
            matches!(error, RegistryError::Malformed { .. }),
            "{body}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stumble_is_tried_again_and_a_refusal_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let server = Hostile::start(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(500, "<html>oops"),
        1 => Answer::cut(),
        _ => tag_page(["1"]),
    })
    .await;
    let registries = registries(vec![], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("the third try");
    assert_eq!(words(&list), ["1"]);

    let server = Hostile::start(|_| Answer::new(502, "bad gateway")).await;
    let error = error_of(&server).await;
    assert!(
        matches!(error, RegistryError::Server { status: 502, .. }),
        "{error}"
    );
    assert_eq!(server.received().len(), 3);

    for status in [400, 403, 404, 418] {
        let server = Hostile::start(move |_| Answer::new(status, "no")).await;
        let error = error_of(&server).await;
        // 400 has its second try without a page size.
        let most = if status == 400 { 2 } else { 1 };
        assert_eq!(server.received().len(), most, "{status}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_64_mib_is_refused_before_it_is_read() {
    let server = Hostile::start(|_| Answer::endless(64 * 1024 * 1024)).await;
    let error = error_of(&server).await;
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    // What lies in socket buffers.
    assert!(server.sent() < 20 * 1024 * 1024, "{}", server.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_bomb_stops_at_the_limit() {
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip runs");
    let mut stdin = gzip.stdin.take().expect("it was asked for");
    std::thread::spawn(move || {
        let spaces = vec![b' '; 1024 * 1024];
        for _ in 0..64 {
            let _ = std::io::Write::write_all(&mut stdin, &spaces);
        }
    });
    let bomb = gzip.wait_with_output().expect("gzip ends").stdout;
    assert!(bomb.len() < 200 * 1024);
    let server =
        Hostile::start(move |_| Answer::json(bomb.clone()).with("content-encoding", "gzip")).await;
    let error = error_of(&server).await;
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_said_at_once() {
    let app = repository(&format!("localhost:{}/team/app:1", free_port()));
    let registries = registries(vec![], None);
    let began = Instant::now();
    let error = registries.tags(&app, now()).await.expect_err("nobody");
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error}"
    );
    plimsoll_support::wait::took_at_most(began, Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_slows_no_other() {
    let dead = Hostile::start(|_| Answer::silence()).await;
    let half = Hostile::start(|_| Answer::missing_body()).await;
    let well = Hostile::start(|_| tag_page(["1"])).await;
    let registries = registries(vec![], None);
    let all = (0..30).flat_map(|n| {
        [&dead, &half, &well].map(|s| repository(&format!("{}/team/app{n}:1", s.host())))
    });
    let began = Instant::now();
    let mut stream = registries.tags_stream(all, cached(60));
    let mut answered = 0;
    while answered < 30 {
        let (repository, result) = stream.next().await.expect("thirty good answers");
        assert_eq!(repository.registry(), well.host());
        result.expect("a list of tags");
        answered += 1;
    }
    // Headers of the others would be given up after ten seconds.
    plimsoll_support::wait::took_at_most(began, Duration::from_secs(8));
    drop(stream);
    // Dropping the stream ends the rest: few were ever asked.
    assert!(dead.received().len() <= 10 && half.received().len() <= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_goes_on_failing_is_left_alone_for_the_rest_of_the_cycle() {
    let server = Hostile::start(|_| Answer::new(500, "")).await;
    let registries = registries(vec![], None);
    let all = (0..200).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let results = registries.tags_many(all, cached(60)).await;
    assert_eq!(results.len(), 200);
    let skipped = results
        .values()
        .filter(|r| matches!(r, Err(RegistryError::Skipped { .. })))
        .count();
    assert!(skipped >= 180, "{skipped}");
    assert!(server.received().len() <= 60, "{}", server.received().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_few_and_carry_no_login_elsewhere() {
    let other = Hostile::start(|_| tag_page(["1"])).await;
    let target = format!("http://127.0.0.1:{}/elsewhere", other.port());
    let server = Hostile::start(move |request| {
        if request.header("authorization").is_none() {
            Answer::new(401, "").with("www-authenticate", "Basic realm=x")
        } else {
            Answer::new(307, "").with("location", &target)
        }
    })
    .await;
    let url = format!("http://{}", server.host());
    let pairs = [
        ("url", url.as_str()),
        ("login", "me"),
        ("password", "canary"),
    ];
    let registries_with_login = registries(vec![settings("custom", "x", &pairs)], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries_with_login.tags(&app, now()).await;
    assert_eq!(words(&list.expect("the other server's list")), ["1"]);
    assert_eq!(other.received()[0].header("authorization"), None);

    let server = Hostile::start(|_| Answer::new(302, "").with("location", "/again")).await;
    let error = error_of(&server).await;
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
    assert_eq!(server.received().len(), 6);

    let metadata = "http://169.254.169.254/latest/meta-data/";
    let server = Hostile::start(move |_| Answer::new(302, "").with("location", metadata)).await;
    let error = error_of(&server).await;
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_local_and_metadata_addresses_are_never_asked() {
    let registries = registries(vec![], None);
    for host in ["169.254.169.254", "0.0.0.0:5000"] {
        let app = repository(&format!("{host}/team/app:1"));
        let error = registries.tags(&app, now()).await.expect_err("not asked");
        assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_only_when_its_authority_is_configured() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let ca = directory.path().join("ca.pem");
    let key = directory.path().join("key.pem");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&ca)
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(made.success());
    let server = tls::serve(&ca, &key, tag_body()).await;
    let url = format!("https://localhost:{}", server.port);
    let app = repository(&format!("localhost:{}/team/app:1", server.port));
    let unknown = settings("custom", "x", &[("url", &url)]);
    let error = registries(vec![unknown], None)
        .tags(&app, now())
        .await
        .expect_err("an unknown authority");
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");

    let cafile = ca.to_str().expect("a path");
    let known = settings("custom", "x", &[("url", &url), ("cafile", cafile)]);
    let list = registries(vec![known], None).tags(&app, now()).await;
    assert_eq!(words(&list.expect("a trusted certificate")), ["1"]);

    let insecure = settings("custom", "x", &[("url", &url), ("insecure", "true")]);
    let list = registries(vec![insecure], None).tags(&app, now()).await;
    assert_eq!(words(&list.expect("no check at all")), ["1"]);
}

fn tag_body() -> String {
    r#"{"name":"x","tags":["1"]}"#.to_owned()
}

mod tls {
    //! A TLS server that answers every request with one body.

    use std::{io::BufReader, path::Path, sync::Arc};

    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsAcceptor;

    pub struct Server {
        pub port: u16,
        task: tokio::task::JoinHandle<()>,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    pub async fn serve(certificate: &Path, key: &Path, body: String) -> Server {
        plimsoll_support::init();
        let file = std::fs::File::open(certificate).expect("it was just made");
        let chain = CertificateDer::pem_reader_iter(BufReader::new(file))
            .collect::<Result<Vec<_>, _>>()
            .expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Server { port, task }
    }
}
