//! The values of a container's environment, for those who may see them
//! (contract/drydock-container-api.md, "Reveal container environment variables").

use std::time::Duration;

use plimsoll_domain::{access::Scope, redact::is_sensitive};
use plimsoll_store::audit::{self, AuditStatus, NewAudit};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{App, AppError, live, requests::Caller};

/// The kind of live read.
pub const REVEAL: &str = "env";
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvRequest {
    pub container_id: String,
}

/// A variable with its value.
#[derive(Debug)]
pub struct RevealedVariable {
    pub key: String,
    pub value: SecretString,
    pub sensitive: bool,
}

impl App {
    /// The environment as the engine has it, unredacted and in its order. Written down before
    /// anything leaves; nothing is kept.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, `Unavailable` when no worker answers or the audit trail cannot be
    /// written, `Failed` when the engine does not say.
    pub async fn reveal_environment(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<Vec<RevealedVariable>, AppError> {
        caller.authorise(Scope::ContainersReveal)?;
        let entry = self.get_container(container).await?;
        let facts = &entry.state.facts;
        let ask = async {
            let request = live::payload(&EnvRequest {
                container_id: facts.id.as_str().to_owned(),
            })?;
            self.ask_worker(&facts.watcher, REVEAL, &request, PATIENCE)
                .await
        };
        let revealed = match ask.await {
            Ok(answer) => serde_json::from_value::<Vec<SecretString>>(answer)
                .map(|pairs| pairs.iter().map(variable).collect::<Vec<_>>())
                // What cannot be read is not repeated: it may be a value.
                .map_err(|_| AppError::Failed("The worker's answer cannot be read".to_owned())),
            Err(error) => Err(live::refusal("The container's environment is", error)),
        };
        let details = match &revealed {
            Ok(variables) => {
                let sensitive = variables.iter().filter(|variable| variable.sensitive);
                format!(
                    "{} variables, {} of them sensitive",
                    variables.len(),
                    sensitive.count()
                )
            }
            Err(error) => error.to_string(),
        };
        let status = match &revealed {
            Ok(_) => AuditStatus::Success,
            Err(_) => AuditStatus::Error,
        };
        let entry = NewAudit {
            container_image: Some(&facts.image.name),
            identity_key: Some(entry.state.identity_key.as_str()),
            details: Some(&details),
            actor: Some(caller.principal.name()),
            request_id: caller.request_id,
            ..NewAudit::new("env-reveal", &facts.name, status)
        };
        audit::append(&self.store().client().await?, &entry).await?;
        revealed
    }
}

/// From Docker's `KEY=value`. A text without `=` is a variable without a value.
fn variable(pair: &SecretString) -> RevealedVariable {
    let pair = pair.expose_secret();
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    RevealedVariable {
        key: key.to_owned(),
        value: SecretString::from(value.to_owned()),
        sensitive: is_sensitive(key, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_apart_at_its_first_sign() {
        let read = |pair: &str| variable(&SecretString::from(pair.to_owned()));
        let secret = read("DB_PASSWORD=a=b");
        assert_eq!(secret.value.expose_secret(), "a=b");
        assert!(secret.sensitive);
        assert!(!format!("{secret:?}").contains("a=b"));
        let flag = read("FLAG");
        assert_eq!(
            (flag.key.as_str(), flag.value.expose_secret()),
            ("FLAG", "")
        );
    }
}
