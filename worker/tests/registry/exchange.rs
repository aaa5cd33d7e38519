//! Keys of clouds, exchanged for logins at services that answer as theirs do, and which login goes
//! where.

use std::{
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::Utc;
use plimsoll_worker::registry::{Registries, RegistryError, RegistrySettings};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::ExposeSecret;

use crate::{
    cached, failures,
    hostile::{Answer, Hostile, Received, tag_page},
    image, now, registries, repository, settings, words,
};

const AWS: [(&str, &str); 3] = [
    ("accesskeyid", "AKIDEXAMPLE"),
    ("secretaccesskey", "canary"),
    ("region", "eu-west-1"),
];

fn with<'a>(pairs: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [pairs, more].concat()
}

/// Amazon's registry and its service in one. The password is `password-<n>` of the last exchange;
/// `lasts` seconds after it was given, it ends.
async fn start_ecr(exchanges: Arc<AtomicUsize>, lasts: i64) -> Hostile {
    Hostile::start(move |request| match request.method.as_str() {
        "POST" => ecr_token(request, exchanges.fetch_add(1, Ordering::SeqCst) + 1, lasts),
        _ => {
            let last = exchanges.load(Ordering::SeqCst);
            let wanted = BASE64_STANDARD.encode(format!("AWS:password-{last}"));
            match request.header("authorization") {
                Some(shown) if shown == format!("Basic {wanted}") => tag_page(["1"]),
                _ => Answer::new(401, "").with(
                    "www-authenticate",
                    r#"Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#,
                ),
            }
        }
    })
    .await
}

/// As `GetAuthorizationToken` of the private registry answers.
fn ecr_token(request: &Received, number: usize, lasts: i64) -> Answer {
    assert_eq!(request.path, "/");
    assert_eq!(request.body, "{}");
    let header = |name| request.header(name).unwrap_or_default();
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(
        header("x-amz-target"),
        "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
    );
    let shown = header("authorization");
    let end =
        "/ecr/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=";
    assert!(
        shown.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
        "{shown}"
    );
    assert!(shown.contains(end), "{shown}");
    let token = BASE64_STANDARD.encode(format!("AWS:password-{number}"));
    let end = Utc::now().timestamp() + lasts;
    Answer::json(format!(
        r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":{end}.123,"proxyEndpoint":"https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"}}]}}"#
    ))
}

/// An instance that finds registry and service at `server`.
fn at(server: &Hostile, kind: &str, pairs: &[(&str, &str)]) -> RegistrySettings {
    let url = format!("http://{}", server.host());
    settings(
        kind,
        "prod",
        &with(pairs, &[("url", &url), ("authurl", &url)]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_key_is_exchanged_once_for_many_questions_and_for_pulls() {
    let exchanges = Arc::new(AtomicUsize::new(0));
    let server = start_ecr(exchanges.clone(), 12 * 3600).await;
    let registries = registries(vec![at(&server, "ecr", &AWS)], None);
    let all = || (0..20).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let results = registries.tags_many(all(), now()).await;
    assert!(failures(&results).is_empty(), "{:?}", failures(&results));
    let app = image(&format!("{}/team/app:1", server.host()));
    let auth = registries.pull_auth(&app).await.expect("a login");
    let auth = auth.expect("not anonymous");
    assert_eq!(auth.username.as_deref(), Some("AWS"));
    let password = auth.password.expect("a password");
    assert_eq!(password.expose_secret(), "password-1");
    assert_eq!(exchanges.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_registry_withdraws_is_renewed_once() {
    let exchanges = Arc::new(AtomicUsize::new(0));
    let server = start_ecr(exchanges.clone(), 12 * 3600).await;
    let registries = registries(vec![at(&server, "ecr", &AWS)], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    registries.tags(&app, now()).await.expect("a list of tags");
    // The next password counts from here on.
    exchanges.fetch_add(1, Ordering::SeqCst);
    let list = registries.tags(&app, now()).await.expect("a new login");
    assert_eq!(words(&list), ["1"]);
    assert_eq!(exchanges.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_about_to_end_is_not_used() {
    let exchanges = Arc::new(AtomicUsize::new(0));
    let server = start_ecr(exchanges.clone(), 30).await;
    let registries = registries(vec![at(&server, "ecr", &AWS)], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    for _ in 0..2 {
        registries.tags(&app, now()).await.expect("a list of tags");
    }
    assert_eq!(exchanges.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_an_error_that_says_what_to_do_and_never_anonymous() {
    let server = Hostile::start(|request| match request.method.as_str() {
        "POST" => Answer::new(
            400,
            r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
        ),
        _ => match request.header("authorization") {
            Some(_) => tag_page(["1"]),
            None => Answer::new(401, "").with("www-authenticate", r#"Basic realm="x""#),
        },
    })
    .await;
    let registries = registries(vec![at(&server, "ecr", &AWS)], None);
    let all = || (0..20).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let results = registries.tags_many(all(), cached(60)).await;
    let failures = failures(&results);
    assert_eq!(failures.len(), 20);
    let text = failures[0].to_string();
    for words in [
        "ecr.prod",
        "UnrecognizedClientException",
        "DD_REGISTRY_ECR_PROD_ACCESSKEYID",
        "ecr:GetAuthorizationToken",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("canary"), "{text}");
    let exchanges = server
        .received()
        .iter()
        .filter(|r| r.method == "POST")
        .count();
    assert_eq!(exchanges, 1, "a refused key is not shown again and again");

    let app = image(&format!("{}/team/app:1", server.host()));
    let error = registries.pull_auth(&app).await.expect_err("no login");
    assert!(matches!(error, RegistryError::Login { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_is_limited_or_broken_is_told_apart() {
    let cases: [(u16, &str, &str); 4] = [
        (
            400,
            r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
            "rate-limited",
        ),
        (
            500,
            r#"{"__type":"ServerException","message":"x"}"#,
            "server-error",
        ),
        (200, "{}", "malformed"),
        (200, r#"{"authorizationData":[]}"#, "malformed"),
    ];
    for (status, body, kind) in cases {
        let service = Hostile::start(move |_| Answer::new(status, body)).await;
        let registries = registries(vec![at(&service, "ecr", &AWS)], None);
        let app = image(&format!("{}/team/app:1", service.host()));
        let error = registries.pull_auth(&app).await.expect_err("no login");
        assert_eq!(error.kind(), kind, "{body}: {error}");
    }
}

/// The public gallery's service: another target, an object instead of a list.
#[tokio::test(flavor = "multi_thread")]
async fn the_public_gallery_has_a_service_of_its_own() {
    let service = Hostile::start(|request| {
        let target = request.header("x-amz-target");
        assert_eq!(target, Some("SpencerFrontendService.GetAuthorizationToken"));
        let shown = request.header("authorization").unwrap_or_default();
        assert!(
            shown.contains("/us-east-1/ecr-public/aws4_request"),
            "{shown}"
        );
        let token = BASE64_STANDARD.encode("AWS:gallery");
        Answer::json(format!(
            r#"{{"authorizationData":{{"authorizationToken":"{token}","expiresAt":4102444800.0}}}}"#
        ))
    })
    .await;
    let url = format!("http://{}", service.host());
    let key = settings("ecr", "prod", &with(&AWS, &[("authurl", &url)]));
    let with_key = registries(vec![key.clone()], None);
    let gallery = image("public.ecr.aws/nginx/nginx:1");
    assert_eq!(
        password(&with_key, "public.ecr.aws/nginx/nginx:1").await,
        "AWS gallery"
    );

    // A key without that right: the gallery is kept anonymous by naming it.
    let named = settings("ecr", "gallery", &[("url", "https://public.ecr.aws")]);
    let kept = registries(vec![key, named], None);
    assert!(kept.pull_auth(&gallery).await.expect("anonymous").is_none());
}

/// A new RSA key of a service account.
fn google_key() -> String {
    let made = Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .stderr(Stdio::null())
        .output()
        .expect("openssl runs");
    assert!(made.status.success());
    String::from_utf8(made.stdout).expect("PEM")
}

/// Checks an assertion as Google does; the claims.
fn verified(assertion: &str, pem: &str) -> serde_json::Value {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
    let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("an RSA key");
    let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
    let (signed, signature) = assertion.rsplit_once('.').expect("three parts");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
        .verify(signed.as_bytes(), &decode(signature))
        .expect("the signature is right");
    let (head, claims) = signed.split_once('.').expect("two parts");
    assert_eq!(decode(head), br#"{"alg":"RS256","typ":"JWT"}"#);
    serde_json::from_slice(&decode(claims)).expect("claims")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_is_exchanged_for_an_access_token() {
    let pem = google_key();
    for (kind, written) in [
        ("gcr", pem.clone()),
        ("gar", pem.trim().replace('\n', "\\n")),
    ] {
        let known = pem.clone();
        let server = Hostile::start(move |request| match request.path.as_str() {
            "/token" => {
                let form = request
                    .body
                    .split('&')
                    .filter_map(|pair| pair.split_once('='));
                let form: std::collections::HashMap<_, _> = form.collect();
                assert_eq!(
                    form["grant_type"],
                    "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
                );
                let claims = verified(form["assertion"], &known);
                assert_eq!(claims["iss"], "robot@project.iam.gserviceaccount.com");
                assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
                assert!(claims["exp"].as_i64() <= claims["iat"].as_i64().map(|iat| iat + 3600));
                Answer::json(
                    r#"{"access_token":"ya29.access","expires_in":3599,"token_type":"Bearer"}"#,
                )
            }
            path if path.starts_with("/v2/token?") => {
                let basic = BASE64_STANDARD.encode("oauth2accesstoken:ya29.access");
                let shown = request.header("authorization");
                assert_eq!(shown, Some(format!("Basic {basic}").as_str()));
                Answer::json(r#"{"token":"granted","expires_in":300}"#)
            }
            _ => match request.header("authorization") {
                Some("Bearer granted") => tag_page(["1"]),
                _ => Answer::new(401, "").with(
                    "www-authenticate",
                    r#"Bearer realm="/v2/token",service="gcr.io",scope="repository:team/app:pull""#,
                ),
            },
        })
        .await;
        let account = [
            ("clientemail", "robot@project.iam.gserviceaccount.com"),
            ("privatekey", written.as_str()),
        ];
        let registries = registries(vec![at(&server, kind, &account)], None);
        let reference = format!("{}/team/app:1", server.host());
        let list = registries.tags(&repository(&reference), now()).await;
        assert_eq!(words(&list.expect("a list of tags")), ["1"]);
        assert_eq!(
            password(&registries, &reference).await,
            "oauth2accesstoken ya29.access"
        );
        let exchanges = server
            .paths()
            .into_iter()
            .filter(|path| path == "/token")
            .count();
        assert_eq!(exchanges, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn google_s_refusal_is_passed_on_in_words() {
    let service = Hostile::start(|_| {
        Answer::new(
            400,
            r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
        )
    })
    .await;
    let pem = google_key();
    let account = [
        ("clientemail", "robot@project"),
        ("privatekey", pem.as_str()),
    ];
    let registries = registries(vec![at(&service, "gar", &account)], None);
    let app = image(&format!("{}/team/app:1", service.host()));
    let error = registries.pull_auth(&app).await.expect_err("no login");
    let text = error.to_string();
    for words in [
        "gar.prod",
        "Invalid JWT Signature",
        "DD_REGISTRY_GAR_PROD_CLIENTEMAIL",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

/// Azure's registries exchange a service principal's password at `/oauth2/token` of their own.
#[tokio::test(flavor = "multi_thread")]
async fn azure_s_service_principal_gets_a_token_of_the_registry() {
    let server = Hostile::start(|request| {
        if request.path.starts_with("/oauth2/token?") {
            let basic = BASE64_STANDARD.encode("app-id:app-secret");
            let shown = request.header("authorization");
            assert_eq!(shown, Some(format!("Basic {basic}").as_str()));
            assert!(request.path.contains("service=team.azurecr.io"), "{}", request.path);
            assert!(request.path.contains("scope=repository%3Ateam%2Fapp%3Apull"));
            return Answer::json(r#"{"access_token":"granted"}"#);
        }
        match request.header("authorization") {
            Some("Bearer granted") => tag_page(["1"]),
            _ => Answer::new(401, "")
                .with("www-authenticate", r#"Bearer realm="/oauth2/token",service="team.azurecr.io",scope="repository:team/app:metadata_read""#)
                .with("www-authenticate", r#"Basic realm="team.azurecr.io""#),
        }
    })
    .await;
    let principal = [("clientid", "app-id"), ("clientsecret", "app-secret")];
    let registries = registries(vec![at(&server, "acr", &principal)], None);
    let reference = format!("{}/team/app:1", server.host());
    let list = registries.tags(&repository(&reference), now()).await;
    assert_eq!(words(&list.expect("a list of tags")), ["1"]);
    assert_eq!(password(&registries, &reference).await, "app-id app-secret");
}

async fn password(registries: &Registries, reference: &str) -> String {
    let auth = registries.pull_auth(&image(reference)).await;
    match auth.expect("a login can be had") {
        Some(auth) => {
            let password = auth.password.expect("a password");
            format!(
                "{} {}",
                auth.username.unwrap_or_default(),
                password.expose_secret()
            )
        }
        None => String::new(),
    }
}

/// Type, settings, host, and the login that its pulls get.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

/// Every type that is known by its hosts, with each of its forms of login, all at once: each host
/// gets its own and no other.
#[tokio::test(flavor = "multi_thread")]
async fn every_login_goes_to_the_hosts_of_its_registry_only() {
    let auth = BASE64_STANDARD.encode("me:auth");
    let cases: [Case<'_>; 20] = [
        (
            "acr",
            &[("clientid", "id"), ("clientsecret", "acr")],
            "team.azurecr.io",
            "id acr",
        ),
        (
            "alicr",
            &[("login", "me"), ("password", "ali")],
            "registry.cn-hangzhou.aliyuncs.com",
            "me ali",
        ),
        (
            "codeberg",
            &[("login", "me"), ("password", "berg")],
            "codeberg.org",
            "me berg",
        ),
        (
            "dhi",
            &[("login", "me"), ("token", "dhi")],
            "dhi.io",
            "me dhi",
        ),
        (
            "docr",
            &[("token", "docr")],
            "registry.digitalocean.com",
            "doctl docr",
        ),
        (
            "ghcr",
            &[("username", "me"), ("token", "ghcr")],
            "ghcr.io",
            "me ghcr",
        ),
        (
            "gitlab",
            &[("token", "lab")],
            "registry.gitlab.com",
            "oauth2 lab",
        ),
        ("hub", &[("auth", &auth)], "docker.io", "me auth"),
        ("ibmcr", &[("apikey", "ibm")], "de.icr.io", "iamapikey ibm"),
        (
            "lscr",
            &[("username", "me"), ("token", "lscr")],
            "lscr.io",
            "me lscr",
        ),
        ("mau", &[("token", "mau")], "dock.mau.dev", "oauth2 mau"),
        (
            "ocir",
            &[("login", "t/me"), ("password", "oci")],
            "fra.ocir.io",
            "t/me oci",
        ),
        (
            "quay",
            &[("namespace", "n"), ("account", "a"), ("token", "quay")],
            "quay.io",
            "n+a quay",
        ),
        (
            "trueforge",
            &[("username", "me"), ("token", "true")],
            "oci.trueforge.org",
            "me true",
        ),
        (
            "artifactory",
            &[("url", "https://a.lan"), ("login", "me"), ("password", "a")],
            "a.lan",
            "me a",
        ),
        (
            "custom",
            &[
                ("url", "https://c.lan:5000"),
                ("login", "me"),
                ("password", "c"),
            ],
            "c.lan:5000",
            "me c",
        ),
        (
            "forgejo",
            &[("url", "https://f.lan"), ("auth", &auth)],
            "f.lan",
            "me auth",
        ),
        (
            "gitea",
            &[("url", "https://g.lan"), ("login", "me"), ("password", "g")],
            "g.lan",
            "me g",
        ),
        (
            "harbor",
            &[("url", "https://h.lan"), ("login", "me"), ("password", "h")],
            "h.lan",
            "me h",
        ),
        (
            "nexus",
            &[("url", "https://n.lan"), ("login", "me"), ("password", "n")],
            "n.lan",
            "me n",
        ),
    ];
    let all = cases
        .iter()
        .map(|(kind, pairs, ..)| settings(kind, "x", pairs));
    let known = registries(all.collect(), None);
    for (kind, pairs, host, login) in cases {
        let reference = format!("{host}/team/app:1");
        assert_eq!(password(&known, &reference).await, login, "{kind}");
        let (id, _) = known.configured(host).expect("it is configured");
        assert_eq!(id, format!("{kind}.x"));
        let alone = registries(vec![settings(kind, "x", pairs)], None);
        for (_, _, other, _) in cases.iter().filter(|(_, _, other, _)| *other != host) {
            let reference = format!("{other}/team/app:1");
            assert_eq!(password(&alone, &reference).await, "", "{kind} at {other}");
        }
        let lookalike = format!(
            "{}.evil.net/team/app:1",
            host.split(':').next().unwrap_or(host)
        );
        assert_eq!(password(&known, &lookalike).await, "", "{lookalike}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_registrys_region_is_taken_and_the_token_fetched_there() {
    let service = Hostile::start(|request| {
        let shown = request.header("authorization").unwrap_or_default();
        let credential = shown.split("Credential=").nth(1).unwrap_or_default();
        let mut parts = credential.split('/');
        let (id, region) = (
            parts.next().unwrap_or_default(),
            parts.nth(1).unwrap_or_default(),
        );
        let token = BASE64_STANDARD.encode(format!("{id}:{region}"));
        Answer::json(format!(
            r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":4102444800}}]}}"#
        ))
    })
    .await;
    let url = format!("http://{}", service.host());
    let key = |name: &str, id: &str, region: &str| {
        let pairs = [
            ("accesskeyid", id),
            ("secretaccesskey", "canary"),
            ("region", region),
            ("authurl", &url),
        ];
        settings("ecr", name, &pairs)
    };
    let keys = vec![key("a", "west", "eu-west-1"), key("b", "east", "us-east-1")];
    let registries = registries(keys, None);
    for (region, login) in [
        ("eu-west-1", "west eu-west-1"),
        ("us-east-1", "east us-east-1"),
        ("sa-east-1", "west sa-east-1"),
    ] {
        let reference = format!("123456789012.dkr.ecr.{region}.amazonaws.com/app:1");
        assert_eq!(password(&registries, &reference).await, login);
    }
}
