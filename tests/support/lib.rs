//! Real parts for tests: Postgres, Redis, a Docker engine, a registry, fault proxies and our own
//! binaries as child processes. Nothing is mocked.
//!
//! Who owns what:
//! * **Postgres**: one server per checkout, shared by every test process that runs at the time
//!   (`cargo test` threads and `nextest` processes alike). The first test starts it, each test gets
//!   a database of its own copied from a migrated template. A reaper stops it and removes its
//!   directory three seconds after the last test process has ended, however that one ended.
//! * **Redis, registry, proxies, our binaries**: one per test, bound to the test process by the
//!   parent-death signal.
//! * **Docker objects**: labelled `plimsoll.test=<id of the test>` and
//!   `plimsoll.test.checkout=<id of the checkout>`; removed when the test's guard is dropped, and
//!   by the reaper if the test was killed.

pub mod certificate;
pub mod contained;
pub mod cosign;
pub mod docker;
mod fidelity;
pub mod hostile;
pub mod image;
pub mod kafka;
pub mod mosquitto;
pub mod oidc;
pub mod oracle;
pub mod otlp;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod recorded;
pub mod redis;
pub mod registry;
pub mod server;
pub mod services;
pub mod smtp;
pub mod standard_webhooks;
pub mod syft;
mod tar;
pub mod trivy;
pub mod wait;

/// Installs the TLS provider that our clients expect. Call it first in a test that speaks HTTP;
/// the helpers here do it themselves.
pub fn init() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A short random word for names that must not collide.
pub fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..12].to_owned()
}
