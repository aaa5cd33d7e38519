//! Reading the audit trail (contract/drydock-app-api.md, "Audit trail").

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
pub use plimsoll_store::audit::AuditEntry;
use plimsoll_store::audit::AuditFilter;

use crate::{App, AppError};

/// The filters as a client writes them.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditQuery<'a> {
    pub action: Option<&'a str>,
    /// Several actions, separated by commas.
    pub actions: Option<&'a str>,
    pub container: Option<&'a str>,
    /// An instant or a day.
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
}

impl AuditQuery<'_> {
    /// # Errors
    /// `Invalid` in the contract's words.
    fn parse(self) -> Result<AuditFilter, AppError> {
        let word = |value: Option<&str>, name: &str| match value.filter(|v| !v.is_empty()) {
            Some(value) if !is_word(value) => Err(invalid(name)),
            value => Ok(value.map(str::to_owned)),
        };
        let mut actions: Vec<String> = Vec::new();
        for action in self.actions.unwrap_or_default().split(',') {
            actions.extend(word(Some(action), "actions")?);
        }
        actions.extend(word(self.action, "action")?);
        Ok(AuditFilter {
            actions: (!actions.is_empty()).then_some(actions),
            container: word(self.container, "container")?,
            from: instant(self.from, "from", NaiveTime::MIN)?,
            // A day as the end includes the day.
            to: instant(
                self.to,
                "to",
                NaiveTime::from_hms_milli_opt(23, 59, 59, 999).unwrap_or_default(),
            )?,
        })
    }
}

impl App {
    /// One page, newest first, and how many entries match.
    pub async fn audit_entries(
        &self,
        query: AuditQuery<'_>,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<AuditEntry>, u64), AppError> {
        let filter = query.parse()?;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (entries, total) = self
            .store()
            .audit_page(&filter, number(offset), number(limit))
            .await?;
        Ok((entries, u64::try_from(total).unwrap_or(0)))
    }
}

fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn invalid(name: &str) -> AppError {
    AppError::Invalid(format!("Invalid {name} query parameter"))
}

fn instant(
    text: Option<&str>,
    name: &str,
    time: NaiveTime,
) -> Result<Option<DateTime<Utc>>, AppError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let instant = DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .or_else(|_| {
            text.parse::<NaiveDate>()
                .map(|day| day.and_time(time).and_utc())
        });
    instant.map(Some).map_err(|_| invalid(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: AuditQuery<'_>) -> String {
        query.parse().unwrap_err().to_string()
    }

    #[test]
    fn filters_that_are_no_words_are_refused_by_name() {
        let action = AuditQuery {
            action: Some("a b"),
            ..Default::default()
        };
        assert_eq!(refused(action), "Invalid action query parameter");
        let from = AuditQuery {
            from: Some("yesterday"),
            ..Default::default()
        };
        assert_eq!(refused(from), "Invalid from query parameter");
    }

    #[test]
    fn a_day_as_the_end_includes_the_day() {
        let filter = AuditQuery {
            actions: Some("rollback,preview,"),
            from: Some("2026-01-02"),
            to: Some("2026-01-02"),
            ..Default::default()
        }
        .parse()
        .unwrap();
        assert_eq!(filter.actions.unwrap(), ["rollback", "preview"]);
        let span = filter.to.unwrap() - filter.from.unwrap();
        assert_eq!(span.num_milliseconds(), 24 * 3600 * 1000 - 1);
    }
}
