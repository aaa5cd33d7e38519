use plimsoll_domain::{
    acting::UpdateTrigger, assessment::MaturityScale, eligibility::AdmissionFacts,
    view::ViewContext,
};
use plimsoll_outbound::Reach;
use secrecy::SecretString;

use crate::access::AccessSettings;

/// A feature that the operator may switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Enabled,
    Disabled,
}

impl Feature {
    pub const fn is_enabled(self) -> bool {
        matches!(self, Self::Enabled)
    }
}

/// The tokens of `/api/v1/webhook/*`: one for all, or one for each of the three.
#[derive(Clone, Debug)]
pub enum WebhookTokens {
    /// Every call is refused with 403.
    Disabled,
    One(SecretString),
    Each {
        watch_all: SecretString,
        watch: SecretString,
        update: SecretString,
    },
}

/// What use cases need to know of the configuration. The same on every replica.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// `DD_SERVER_FEATURE_CONTAINERACTIONS`
    pub container_actions: Feature,
    /// `DD_SERVER_FEATURE_DELETE`
    pub container_deletion: Feature,
    pub webhooks: WebhookTokens,
    /// What registries sign deliveries with: any of these. Empty: nothing signed is accepted.
    pub webhook_secrets: Vec<SecretString>,
    /// Candidates younger than this many days are `hot` (`DD_UI_MATURITY_THRESHOLD_DAYS`). `None`:
    /// the contract document's scale, 24 hours and 7 days.
    pub maturity_threshold_days: Option<u16>,
    /// What updates containers. Empty: nothing does.
    pub update_triggers: Vec<UpdateTrigger>,
    pub access: AccessSettings,
    /// `DD_SECURITY_SCANNER=trivy`
    pub scanner: Feature,
    /// Whether bills of materials are made: `DD_SECURITY_SBOM_ENABLED`, or a scanner, which can.
    pub sbom: Feature,
    /// Where addresses that the owner names may be (`DD_OUTBOUND_…`).
    pub reach: Reach,
    /// Event streams that are open in this process at most (`DD_SSE_MAX_CLIENTS`).
    pub event_streams: u32,
}

impl AppSettings {
    /// What a container's rendering depends on besides the container.
    pub fn view_context(&self) -> ViewContext {
        ViewContext {
            maturity: self
                .maturity_threshold_days
                .map(MaturityScale::from_threshold_days)
                .unwrap_or_default(),
            admission: AdmissionFacts {
                actions_enabled: self.container_actions.is_enabled(),
                triggers: self.update_triggers.clone(),
            },
        }
    }
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            container_actions: Feature::Enabled,
            container_deletion: Feature::Enabled,
            webhooks: WebhookTokens::Disabled,
            webhook_secrets: Vec::new(),
            maturity_threshold_days: None,
            update_triggers: AdmissionFacts::default().triggers,
            access: AccessSettings::default(),
            scanner: Feature::Disabled,
            sbom: Feature::Disabled,
            reach: Reach::HOME,
            event_streams: 500,
        }
    }
}
