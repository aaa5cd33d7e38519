//! What an identity provider's claims mean here: a name to show and a role.

use serde_json::Value;

use crate::access::Role;

/// How roles follow from claims. The highest role that matches counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRule {
    /// The claim, such as `groups` or, inside an object, `realm_access.roles`.
    pub claim: Option<String>,
    /// Its values, and the roles that they give. Empty: the values are the roles' own names.
    pub roles: Vec<(String, Role)>,
    /// Everybody's whom no value gives a role. `None`: they are not let in.
    pub otherwise: Option<Role>,
}

impl RoleRule {
    pub fn role(&self, claims: &Value) -> Option<Role> {
        self.claim
            .as_deref()
            .and_then(|claim| claim_at(claims, claim))
            .and_then(|value| match value {
                Value::Array(values) => values.iter().filter_map(|v| self.role_of(v)).max(),
                value => self.role_of(value),
            })
            .or(self.otherwise)
    }

    fn role_of(&self, value: &Value) -> Option<Role> {
        let value = value.as_str()?;
        if self.roles.is_empty() {
            return Role::parse(value);
        }
        let matching = self.roles.iter().filter(|(name, _)| name == value);
        matching.map(|(_, role)| *role).max()
    }

    /// Whether `claims` say anything about roles.
    pub fn is_answered_by(&self, claims: &Value) -> bool {
        self.claim
            .as_deref()
            .is_none_or(|claim| claim_at(claims, claim).is_some())
    }
}

/// The claim itself, or the one that dots lead to: some providers have dots in names.
fn claim_at<'a>(claims: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.split('.')
        .try_fold(claims, |value, name| value.get(name))
}

/// Characters of a name that are kept.
const MAX_NAME: usize = 100;

/// What a person is called: the address, as Drydock has it, or else the next best.
pub fn name_of(claims: &Value) -> Option<String> {
    ["email", "preferred_username", "name", "sub"]
        .iter()
        .filter_map(|claim| claims.get(claim)?.as_str())
        .map(|name| {
            let printable = name.chars().filter(|c| !c.is_control());
            printable
                .take(MAX_NAME)
                .collect::<String>()
                .trim()
                .to_owned()
        })
        .find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(claim: &str, roles: &[(&str, Role)], otherwise: Option<Role>) -> RoleRule {
        RoleRule {
            claim: Some(claim.to_owned()),
            roles: roles.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect(),
            otherwise,
        }
    }

    #[test]
    fn the_highest_role_that_matches_counts() {
        let rule = rule(
            "groups",
            &[("ops", Role::Operator), ("root", Role::Admin)],
            Some(Role::Viewer),
        );
        let role = |groups| rule.role(&json!({ "groups": groups }));
        assert_eq!(role(json!(["ops", "root", "x"])), Some(Role::Admin));
        assert_eq!(role(json!("ops")), Some(Role::Operator));
        assert_eq!(role(json!(["owner"])), Some(Role::Viewer));
        assert_eq!(role(json!(7)), Some(Role::Viewer));
        assert_eq!(rule.role(&json!({})), Some(Role::Viewer));
    }

    #[test]
    fn without_a_list_the_values_are_the_roles() {
        let rule = rule("realm_access.roles", &[], None);
        let claims = json!({"realm_access": {"roles": ["operator", "offline_access"]}});
        assert_eq!(rule.role(&claims), Some(Role::Operator));
        assert_eq!(rule.role(&json!({"realm_access": {}})), None);
    }

    #[test]
    fn a_claim_whose_name_has_dots_is_found() {
        let rule = rule("https://example.org/roles", &[], None);
        let claims = json!({"https://example.org/roles": ["viewer"]});
        assert_eq!(rule.role(&claims), Some(Role::Viewer));
    }

    #[test]
    fn names_are_short_and_printable() {
        let claims = json!({"email": " \u{7}\n", "preferred_username": "ann\u{0}", "sub": "1"});
        assert_eq!(name_of(&claims).as_deref(), Some("ann"));
        let long = name_of(&json!({"sub": "x".repeat(5000)})).unwrap();
        assert_eq!(long.len(), MAX_NAME);
        assert_eq!(name_of(&json!({"sub": ""})), None);
    }
}
