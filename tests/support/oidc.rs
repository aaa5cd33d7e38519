//! A certified OpenID Connect provider for one test, and a browser to sign in with.
//!
//! `scripts/ensure-services test` fetches it; `oidc/provider.mjs` says what it can be told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, Response, Url, header, redirect};
use serde_json::Value;

use crate::ports::free_port;
use crate::process::{Process, command};
use crate::services::workspace_root;
use crate::wait;

pub struct IdentityProvider {
    process: Option<Process>,
    port: u16,
    redirects: Vec<String>,
}

/// Our id and secret at the provider.
pub const CLIENT_ID: &str = "plimsoll";
pub const CLIENT_SECRET: &str = "the secret between the provider and us";

impl IdentityProvider {
    /// One that sends browsers back to `redirects` only.
    pub async fn start(redirects: &[&str]) -> Self {
        let mut provider = Self {
            process: None,
            port: free_port(),
            redirects: redirects.iter().map(|url| (*url).to_owned()).collect(),
        };
        provider.restart().await;
        provider
    }

    /// Starts it again at the same address, with new keys and without memory.
    pub async fn restart(&mut self) {
        crate::init();
        self.stop();
        let directory = directory();
        assert!(
            directory.join("node_modules").exists(),
            "the identity provider is not there; run `make services`"
        );
        let mut command = command("node");
        command
            .arg(directory.join("provider.mjs"))
            .arg(self.port.to_string())
            .arg(CLIENT_SECRET)
            .args(&self.redirects)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Process::spawn("node", command));
        let (client, url) = (Client::new(), self.discovery());
        wait::until("the identity provider", Duration::from_secs(30), || async {
            let answer = client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// SIGKILL.
    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it publishes its settings.
    pub fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer())
    }

    /// Makes the next ID token differ: `claims`, `without`, `alg`, `kid`, `foreign`.
    pub async fn next_token(&self, difference: Value) {
        let url = format!("{}/test/next-token", self.issuer());
        let sent = Client::new().post(url).json(&difference).send().await;
        assert!(sent.expect("the provider answers").status().is_success());
    }

    /// Moves its clock an hour ahead.
    pub async fn later(&self) {
        let url = format!("{}/test/later", self.issuer());
        let sent = Client::new().post(url).send().await;
        assert!(sent.expect("the provider answers").status().is_success());
    }
}

fn directory() -> PathBuf {
    workspace_root().join("tests/support/oidc")
}

/// Somebody's browser at the provider: it has cookies, follows redirects and fills in forms.
pub struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Default for Browser {
    fn default() -> Self {
        crate::init();
        let client = Client::builder().redirect(redirect::Policy::none());
        Self {
            client: client.build().expect("a client can be built"),
            cookies: BTreeMap::new(),
        }
    }
}

impl Browser {
    /// Goes where `url` leads, signs in as `who` and agrees to everything, until the provider sends
    /// the browser away: where to.
    pub async fn sign_in(&mut self, url: &str, who: &str) -> Url {
        let start = Url::parse(url).expect("the provider's address is one");
        let mut answer = self.get(start.clone()).await;
        let mut here = start.clone();
        for _ in 0..20 {
            let location = answer.headers().get(header::LOCATION).cloned();
            if let Some(location) = location {
                let location = location.to_str().expect("an address is text");
                here = here.join(location).expect("an address");
                if here.origin() != start.origin() {
                    return here;
                }
                answer = self.get(here.clone()).await;
                continue;
            }
            let status = answer.status();
            let page = answer.text().await.expect("the page arrives");
            let prompt = match ["login", "consent"]
                .iter()
                .find(|prompt| page.contains(&format!("name=\"prompt\" value=\"{prompt}\"")))
            {
                Some(prompt) => *prompt,
                None => panic!("{here} shows no form ({status}): {page}"),
            };
            let form = [("prompt", prompt), ("login", who), ("password", "any")];
            let request = self.client.post(here.clone()).form(&form);
            answer = self.send(request).await;
        }
        panic!("the provider goes round in circles");
    }

    async fn get(&mut self, url: Url) -> Response {
        let request = self.client.get(url);
        self.send(request).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Response {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = request.header(header::COOKIE, cookies.join("; "));
        let answer = request.send().await.expect("the provider answers");
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap_or_default().split(';').next();
            if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
                match value {
                    "" => self.cookies.remove(name),
                    value => self.cookies.insert(name.to_owned(), value.to_owned()),
                };
            }
        }
        answer
    }
}
