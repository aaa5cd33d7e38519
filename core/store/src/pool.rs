use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{NoTls, config::Host};

use crate::StoreError;

/// A pooled connection. `prepare_cached` keeps its statements prepared.
pub type Client = deadpool_postgres::Client;
/// A transaction on a pooled connection; rolled back unless committed.
pub type Transaction<'a> = deadpool_postgres::Transaction<'a>;

/// How to reach Postgres.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// A libpq URL or key-value string, e.g. `postgresql:///plimsoll?host=/run/plimsoll`.
    pub url: SecretString,
    /// Connections this process may open, besides two that are reserved for leases.
    pub connections: usize,
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `postgresql://host:port`, or the directory of its socket.
    pub server: String,
    pub database: String,
}

/// How long a caller waits for a connection before it hears `Unavailable` (reliability.md P1, P5).
const WAIT: Duration = Duration::from_millis(900);
/// A statement of a request never runs longer.
const STATEMENT_TIMEOUT_MS: u32 = 5_000;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    /// Lease renewals must not queue behind load (reliability.md P5).
    reserved: Pool,
    config: tokio_postgres::Config,
}

impl Store {
    /// Connects lazily: no round trip is made here, so that a replica starts while Postgres is
    /// away. Fails only where the URL is wrong.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let mut config: tokio_postgres::Config = settings
            .url
            .expose_secret()
            .parse()
            .map_err(|e| StoreError::corrupt("DATABASE_URL", e))?;
        config.connect_timeout(WAIT);
        config.tcp_user_timeout(Duration::from_secs(10));
        config.application_name("plimsoll");
        // Compiling a plan takes longer than any statement of ours, and a wrong estimate is enough
        // for Postgres to do it.
        let session = format!(
            "-c jit=off -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout=2000 \
             -c idle_in_transaction_session_timeout=10000"
        );
        let options = match config.get_options() {
            Some(own) => format!("{own} {session}"),
            None => session,
        };
        config.options(&options);
        Ok(Self {
            pool: pool(&config, settings.connections)?,
            reserved: pool(&config, 2)?,
            config,
        })
    }

    /// A connection for ordinary work.
    pub async fn client(&self) -> Result<Client, StoreError> {
        Ok(self.pool.get().await?)
    }

    /// A connection that load cannot take away: for lease renewals only.
    pub async fn reserved_client(&self) -> Result<Client, StoreError> {
        Ok(self.reserved.get().await?)
    }

    /// Closes a connection that stopped answering, instead of giving it to the next caller.
    pub fn discard(client: Client) {
        drop(Client::take(client));
    }

    /// A connection outside the pool whose statements may take `limit`.
    pub(crate) async fn dedicated(&self, limit: Duration) -> Result<Client, StoreError> {
        let mut config = self.config.clone();
        config.options(format!("-c statement_timeout={}", limit.as_millis()));
        let client = pool(&config, 1)?.get().await?;
        Ok(client)
    }

    /// Where the database is, without any credential.
    pub fn place(&self) -> Place {
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let server = match self.config.get_hosts().first() {
            Some(Host::Tcp(host)) => format!("postgresql://{host}:{port}"),
            // Our own server's is given by descriptor, which tells people nothing.
            Some(Host::Unix(directory)) => {
                let real = directory
                    .canonicalize()
                    .unwrap_or_else(|_| directory.clone());
                real.display().to_string()
            }
            None => format!("postgresql://localhost:{port}"),
        };
        Place {
            server,
            database: self.config.get_dbname().unwrap_or_default().to_owned(),
        }
    }

    /// Asks Postgres for a round trip.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.client().await?.simple_query("").await?;
        Ok(())
    }
}

/// Begins a transaction. Dropping it without [`commit`] rolls it back.
pub async fn begin(client: &mut Client) -> Result<Transaction<'_>, StoreError> {
    Ok(client.transaction().await?)
}

/// Makes the transaction durable.
pub async fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    Ok(transaction.commit().await?)
}

/// Runs `work`, which is one transaction, and repeats it, at most three times in all, when Postgres
/// says that it lost against a concurrent one. `work` must have no effect outside its transaction.
pub async fn retrying<T, E, F, Fut>(mut work: F) -> Result<T, E>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: MaybeRetry,
{
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if error.is_retry() && attempt < 3 => attempt += 1,
            done => return done,
        }
    }
}

/// Errors that may wrap [`StoreError::Retry`].
pub trait MaybeRetry {
    fn is_retry(&self) -> bool;
}

impl MaybeRetry for StoreError {
    fn is_retry(&self) -> bool {
        matches!(self, StoreError::Retry)
    }
}

fn pool(config: &tokio_postgres::Config, size: usize) -> Result<Pool, StoreError> {
    let manager_config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = match config.get_ssl_mode() {
        tokio_postgres::config::SslMode::Disable => {
            Manager::from_config(config.clone(), NoTls, manager_config)
        }
        // `prefer` is libpq's default: TLS where the server offers it. Unix sockets never do.
        _ if only_unix(config) => Manager::from_config(config.clone(), NoTls, manager_config),
        _ => Manager::from_config(config.clone(), tls(), manager_config),
    };
    Pool::builder(manager)
        .max_size(size.max(1))
        .timeouts(Timeouts {
            wait: Some(WAIT),
            create: Some(WAIT),
            recycle: Some(WAIT),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|e| StoreError::Unavailable(e.to_string()))
}

fn only_unix(config: &tokio_postgres::Config) -> bool {
    config
        .get_hosts()
        .iter()
        .all(|h| matches!(h, tokio_postgres::config::Host::Unix(_)))
}

fn tls() -> tokio_postgres_rustls::MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // A certificate of the system's that rustls cannot read is of no use to anyone.
        let _ = roots.add(certificate);
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_postgres_rustls::MakeRustlsConnect::new(config)
}
