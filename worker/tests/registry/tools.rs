//! Programs that fetch images by themselves: they get what the registry's settings say, and no
//! secret where others could read it.

use std::{io::Read, path::Path, process::Command, time::Duration};

use flate2::read::GzDecoder;
use plimsoll_domain::security::{SbomFormat, SignatureStatus, Subject};
use plimsoll_support::{
    cosign::Cosign,
    image::Image,
    registry::{PASSWORD, Registry, USER},
    syft,
    trivy::Trivy,
};
use plimsoll_worker::scan::{
    CosignSettings, Generator, SbomMaker, SbomSettings, ScanPlace, Signer, SyftSettings,
    TrivySettings, Verifier,
};
use serde_json::Value;

use crate::{registries, settings};

const PLACE: ScanPlace<'_> = ScanPlace {
    platform: "linux/amd64",
    engine: "https://elsewhere:2376",
    image_id: None,
};

struct Closed {
    registry: Registry,
    subject: Subject,
}

impl Closed {
    async fn start() -> Self {
        let registry = Registry::start_with_basic_auth().await;
        let image = Image::app("1");
        let digest = registry.push("team/app", "1.0.0", &image).await;
        let subject = Subject {
            image: registry.reference("team/app", "1.0.0"),
            digest: Some(digest),
            image_id: None,
        };
        Self { registry, subject }
    }

    fn maker(&self, password: &str) -> SbomMaker {
        let url = format!("http://{}", self.registry.host());
        let pairs = [("url", &*url), ("login", USER), ("password", password)];
        let registries = registries(vec![settings("custom", "mine", &pairs)], None);
        SbomMaker::new(
            makers(syft::command().display().to_string(), ""),
            registries,
        )
    }
}

fn makers(syft: String, trivy: &str) -> SbomSettings {
    SbomSettings {
        generator: None,
        has_trivy: !trivy.is_empty(),
        syft: SyftSettings {
            command: syft,
            timeout: Duration::from_secs(60),
            docker_config: None,
        },
        trivy: TrivySettings {
            command: trivy.to_owned(),
            server: None,
            timeout: Duration::from_secs(60),
            docker_config: None,
        },
        with_scans: Vec::new(),
    }
}

/// The file of a certificate.
fn authority(directory: &Path) -> String {
    let path = |name: &str| directory.join(name).display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=authority",
        ])
        .args(["-keyout", &path("key.pem"), "-out", &path("ca.pem")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success());
    path("ca.pem")
}

fn document(compressed: &[u8]) -> Value {
    let mut text = String::new();
    GzDecoder::new(compressed)
        .read_to_string(&mut text)
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn syft_signs_in_at_the_registry_and_looks_at_that_digest() {
    let closed = Closed::start().await;
    let (format, subject) = (SbomFormat::SpdxJson, &closed.subject);
    let maker = closed.maker(PASSWORD);
    assert_eq!(maker.settings().generator(), Generator::Syft);
    let made = maker.make(Generator::Syft, format, subject, &PLACE).await;
    let document = document(&made.expect("a document"));
    let packages = document["packages"].as_array().unwrap();
    assert!(packages.iter().any(|package| package["name"] == "busybox"));
    let name = subject.image.trim_end_matches(":1.0.0");
    let image = packages.iter().find(|package| package["name"] == name);
    assert_eq!(
        image.expect("the image itself")["versionInfo"],
        subject.digest.as_deref().unwrap()
    );

    let refused = closed.maker("wrong");
    let refused = refused.make(Generator::Syft, format, subject, &PLACE).await;
    let error = refused.expect_err("a wrong password").to_string();
    assert!(error.contains("UNAUTHORIZED"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_syft_is_missing_the_scanner_makes_it() {
    let closed = Closed::start().await;
    let trivy = Trivy::install();
    let settings = makers("no-such-syft".into(), trivy.command().to_str().unwrap());
    assert_eq!(settings.generator(), Generator::Trivy);
    let maker = SbomMaker::new(settings, registries(vec![], None));
    for (format, option) in [
        (SbomFormat::SpdxJson, "--format spdx-json"),
        (SbomFormat::CyclonedxJson, "--format cyclonedx "),
    ] {
        let made = maker.make(Generator::Trivy, format, &closed.subject, &PLACE);
        assert!(document(&made.await.unwrap()).is_object());
        assert!(trivy.calls().last().unwrap().contains(option));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cosign_gets_the_way_to_the_registry_and_the_login_out_of_sight() {
    let closed = Closed::start().await;
    let cosign = Cosign::install();
    let url = format!("http://{}", closed.registry.host());
    let directory = tempfile::tempdir().unwrap();
    let file = &authority(directory.path());
    let pairs = [
        ("url", &*url),
        ("login", USER),
        ("password", PASSWORD),
        ("insecure", "true"),
        ("cafile", file),
    ];
    let verifier = |identity: &str| {
        let settings = CosignSettings {
            command: cosign.command().display().to_string(),
            signer: Signer::Identity {
                identity: identity.to_owned(),
                issuer: "https://token.example".to_owned(),
            },
            timeout: Duration::from_secs(60),
            docker_config: None,
        };
        let registry = crate::settings("custom", "mine", &pairs);
        Verifier::new(settings, registries(vec![registry], None))
    };
    let digest = closed.subject.digest.as_deref().unwrap();
    cosign.sign(digest, "release@acme.example");
    let report = verifier("release@acme.example")
        .verify(&closed.subject)
        .await;
    assert_eq!(report.status, SignatureStatus::Verified, "{report:?}");
    assert_eq!((report.signatures, report.keyless), (1, true));
    let other = verifier("somebody@acme.example")
        .verify(&closed.subject)
        .await;
    assert_eq!(other.status, SignatureStatus::Unverified, "{other:?}");
    verifier("https://acme.example/*@refs/tags/*")
        .verify(&closed.subject)
        .await;

    let image = closed.subject.image.trim_end_matches(":1.0.0");
    let line = |identity: &str| {
        format!(
            "verify --output json --timeout 60s {identity} --certificate-oidc-issuer \
             https://token.example --allow-http-registry --allow-insecure-registry \
             --registry-cacert {file} -- {image}@{digest}"
        )
    };
    assert_eq!(
        cosign.calls(),
        [
            line("--certificate-identity release@acme.example"),
            line("--certificate-identity somebody@acme.example"),
            line(r"--certificate-identity-regexp ^https://acme\.example/[^/]*@refs/tags/[^/]*$"),
        ]
    );
    let environment = cosign.environment();
    assert!(environment.contains(&format!("COSIGN_REGISTRY_USERNAME={USER}")));
    assert!(environment.contains(&format!("COSIGN_REGISTRY_PASSWORD={PASSWORD}")));

    let local = Subject {
        digest: None,
        image_id: Some("sha256:1".into()),
        ..closed.subject.clone()
    };
    let report = verifier("release@acme.example").verify(&local).await;
    assert_eq!(report.status, SignatureStatus::Error, "{report:?}");
}
