//! The ways to sign in as components (reference/drydock.md 1.5): what the configuration says, the
//! secrets left out.

use plimsoll_domain::{component, redact::REDACTED};
use serde_json::{Map, Value, json};

use crate::{App, components::Component};

impl App {
    /// By type, then name.
    pub fn authentications(&self) -> Vec<Component> {
        let settings = &self.settings().access;
        let mut all = Vec::new();
        if settings.lets_everybody_in() {
            all.push(component("anonymous", "anonymous", json!({})));
        }
        for user in &settings.users {
            let configuration = json!({"user": user.username, "hash": REDACTED});
            all.push(component("basic", &user.strategy, configuration));
        }
        for provider in &settings.oidc {
            let configuration = json!({
                "discovery": provider.issuer.as_str(),
                "clientid": REDACTED,
                "clientsecret": provider.client_secret.as_ref().map(|_| REDACTED),
                "redirect": provider.redirect,
                "logouturl": provider.logout_url.as_ref().map(|url| url.as_str()),
                "timeout": u64::try_from(provider.timeout.as_millis()).unwrap_or(u64::MAX),
                "insecure": provider.tls.verify == plimsoll_outbound::Verify::Nothing,
                "scopes": provider.scopes.join(" "),
                "roleclaim": provider.roles.claim,
            });
            all.push(component("oidc", &provider.name, configuration));
        }
        all.sort_by(|a, b| (&a.type_, &a.name).cmp(&(&b.type_, &b.name)));
        all
    }
}

fn component(kind: &str, name: &str, configuration: Value) -> Component {
    let mut known = Map::new();
    if let Value::Object(configuration) = configuration {
        known.extend(
            configuration
                .into_iter()
                .filter(|(_, value)| !value.is_null()),
        );
    }
    // Masks what it takes for a secret once more, as for every other component.
    let masked = component::Component::new(None, kind, name, known);
    Component::new(
        String::new(),
        kind.to_owned(),
        name.to_owned(),
        Value::Object(masked.configuration().clone()),
    )
}
