use tokio_postgres::error::SqlState;

/// What can go wrong with the store, as its callers must tell it apart.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres does not answer, has no free connection in time, or is starting or stopping.
    /// Nothing was written as far as can be known; the same call may be repeated later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A unique index or check refused the row. Carries the name of the constraint.
    #[error("the database refused the change: constraint {constraint}")]
    Constraint { constraint: String },
    /// The transaction lost against a concurrent one and may be repeated at once.
    #[error("the database asks to repeat the transaction")]
    Retry,
    /// A text holds a character that Postgres does not store: NUL. Nothing was written.
    #[error("a text holds a character that cannot be stored")]
    Unstorable,
    /// A row holds what this version cannot read.
    #[error("the stored {what} cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
    /// A programming error: the statement and the schema do not fit.
    #[error("database error: {}", why(.0))]
    Sql(#[source] tokio_postgres::Error),
}

impl StoreError {
    /// For rows whose JSON or text does not parse.
    pub fn corrupt(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what,
            why: why.to_string(),
        }
    }

    pub fn is_constraint(&self, name: &str) -> bool {
        matches!(self, Self::Constraint { constraint } if constraint == name)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // No server error: the connection broke, or a value did not convert.
            let converts = std::error::Error::source(&error)
                .is_some_and(|s| s.is::<tokio_postgres::types::WasNull>());
            return if converts || !(error.is_closed() || is_io(&error)) {
                Self::Sql(error)
            } else {
                Self::Unavailable(error.to_string())
            };
        };
        match db.code() {
            &SqlState::UNIQUE_VIOLATION
            | &SqlState::CHECK_VIOLATION
            | &SqlState::FOREIGN_KEY_VIOLATION => Self::Constraint {
                constraint: db.constraint().unwrap_or("unknown").to_owned(),
            },
            &SqlState::CHARACTER_NOT_IN_REPERTOIRE | &SqlState::UNTRANSLATABLE_CHARACTER => {
                Self::Unstorable
            }
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Self::Retry,
            &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN
            | &SqlState::CANNOT_CONNECT_NOW
            | &SqlState::TOO_MANY_CONNECTIONS
            | &SqlState::DISK_FULL
            | &SqlState::READ_ONLY_SQL_TRANSACTION
            | &SqlState::QUERY_CANCELED
            | &SqlState::LOCK_NOT_AVAILABLE => Self::Unavailable(db.message().to_owned()),
            _ => Self::Sql(error),
        }
    }
}

/// What the server said; the driver's own text for that is "db error".
fn why(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => error.to_string(),
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|s| s.is::<std::io::Error>())
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(e) => match Self::from(e) {
                // Failing to connect is unavailability, whatever the server said.
                StoreError::Sql(e) => Self::Unavailable(e.to_string()),
                other => other,
            },
            other => Self::Unavailable(other.to_string()),
        }
    }
}
