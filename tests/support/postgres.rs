//! A real Postgres: one server per checkout, one database per test (see the crate's page).

use std::fs::{self, File};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
pub use tokio_postgres::Client;
use tokio_postgres::NoTls;

use crate::services::{Services, detached, shared, workspace_root};

/// A database of its own for one test. Dropped with the guard, open connections or not.
pub struct Database {
    name: String,
    url: String,
    socket: PathBuf,
}

impl Database {
    /// A database with every migration applied.
    pub async fn migrated() -> Self {
        let services = shared();
        let socket = services.server();
        let template = format!("template_{}", migrations_hash());
        let exists =
            blocking(async { exists(&connect(&socket, "postgres").await, &template).await });
        if !exists {
            services.exclusively(|| blocking(make_template(&socket, &template)));
        }
        Self::create(&format!("TEMPLATE {template}")).await
    }

    /// A database without any table.
    pub async fn empty() -> Self {
        Self::create("").await
    }

    async fn create(clause: &str) -> Self {
        let socket = shared().server();
        let name = format!("t_{}", crate::unique());
        let sql = format!("CREATE DATABASE {name} {clause}");
        blocking({
            let socket = socket.clone();
            async move {
                let admin = connect(&socket, "postgres").await;
                admin
                    .batch_execute(&sql)
                    .await
                    .expect("the test's database can be created");
            }
        });
        let url = format!(
            "postgresql:///{name}?user=plimsoll&host={}",
            socket.display()
        );
        Self { name, url, socket }
    }

    /// For `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's Unix socket, as an upstream for a fault proxy.
    pub fn socket(&self) -> PathBuf {
        self.socket.join(".s.PGSQL.5432")
    }

    /// The same database reached through a proxy on `127.0.0.1:port`.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgresql://plimsoll@127.0.0.1:{port}/{}", self.name)
    }

    /// A connection for looking at rows.
    pub async fn client(&self) -> Client {
        connect(&self.socket, &self.name).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (socket, name) = (self.socket.clone(), self.name.clone());
        blocking(async move {
            let admin = connect(&socket, "postgres").await;
            // A failure leaves the database to the reaper.
            let _ = admin
                .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                .await;
        });
    }
}

impl Services {
    /// The socket directory of the running server, which is started if need be.
    fn server(&self) -> PathBuf {
        let socket = self.directory().to_owned();
        let answers = |limit| {
            let socket = socket.clone();
            blocking(async move { try_connect(&socket, "postgres", limit).await.is_ok() })
        };
        if !answers(Duration::ZERO) {
            self.exclusively(|| {
                if !answers(Duration::ZERO) {
                    start(&socket);
                    assert!(
                        answers(Duration::from_secs(30)),
                        "Postgres did not start:\n{}",
                        fs::read_to_string(socket.join("postgres.log")).unwrap_or_default()
                    );
                }
            });
        }
        socket
    }
}

fn start(directory: &Path) {
    let data = directory.join("postgres");
    let _ = fs::remove_dir_all(&data);
    fs::create_dir(&data).expect("the Postgres directory can be made");
    let account = geteuid().is_root().then(|| {
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .expect("Postgres refuses root, and there is neither a user postgres nor nobody")
    });
    let log = directory.join("postgres.log");
    let as_account = |mut command: Command| {
        if let Some(account) = &account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    };
    if let Some(account) = &account {
        for path in [directory, &data] {
            chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw()))
                .expect("root can give a directory away");
        }
    }
    let output = File::create(&log).expect("the Postgres log can be made");
    let initialised = as_account(Command::new(binary("initdb")))
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(output.try_clone().expect("a file handle can be copied"))
        .stdout(output)
        .args(["-U", "plimsoll", "-A", "trust", "--no-sync", "-E", "UTF8"])
        .args(["--locale=C.UTF-8", "-D"])
        .arg(&data)
        .status()
        .expect("initdb can be run");
    assert!(initialised.success(), "initdb failed, see postgres.log");
    // Durability is switched off: a crash of the machine may cost these data, speed is everything.
    as_account(detached(binary("postgres"), &log))
        .arg("-D")
        .arg(&data)
        .args(["-h", "", "-k"])
        .arg(directory)
        .args(["-c", "fsync=off", "-c", "synchronous_commit=off"])
        .args(["-c", "full_page_writes=off", "-c", "max_connections=500"])
        .args(["-c", "shared_buffers=64MB", "-c", "wal_level=minimal"])
        .args(["-c", "max_wal_senders=0", "-c", "autovacuum=off"])
        .status()
        .expect("postgres can be run");
}

/// Debian keeps the server's programs out of PATH.
fn binary(program: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin").join(program))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    versions.pop().unwrap_or_else(|| PathBuf::from(program))
}

async fn exists(admin: &Client, database: &str) -> bool {
    admin
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database])
        .await
        .expect("the catalogue can be read")
        .is_some()
}

async fn make_template(socket: &Path, template: &str) {
    let admin = connect(socket, "postgres").await;
    if exists(&admin, template).await {
        return;
    }
    // Built under another name and renamed, so that a test killed half-way leaves no half template.
    let building = format!("building_{}", crate::unique());
    let run = async |sql: String| {
        admin
            .batch_execute(&sql)
            .await
            .expect("templates can be made")
    };
    run(format!("CREATE DATABASE {building}")).await;
    let mut client = connect(socket, &building).await;
    let migrations = refinery::load_sql_migrations(workspace_root().join("migrations"))
        .expect("the migrations can be read");
    refinery::Runner::new(&migrations)
        .run_async(&mut client)
        .await
        .expect("the migrations can be applied");
    drop(client);
    // Postgres refuses to copy a database that somebody is connected to.
    run(format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{building}'"
    ))
    .await;
    run(format!("ALTER DATABASE {building} RENAME TO {template}")).await;
}

fn migrations_hash() -> String {
    let mut files: Vec<PathBuf> = fs::read_dir(workspace_root().join("migrations"))
        .expect("the migrations directory can be read")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        fs::read(&file)
            .expect("a migration can be read")
            .hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

async fn connect(socket: &Path, database: &str) -> Client {
    try_connect(socket, database, crate::wait::SOON)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to {database}: {error}"))
}

async fn try_connect(
    socket: &Path,
    database: &str,
    limit: Duration,
) -> Result<Client, tokio_postgres::Error> {
    let deadline = Instant::now() + limit;
    loop {
        let attempt = tokio_postgres::Config::new()
            .host_path(socket)
            .user("plimsoll")
            .dbname(database)
            .connect(NoTls)
            .await;
        match attempt {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Runs a future to its end on a runtime of its own, so that it works from a test's runtime, from
/// `Drop`, and while unwinding.
pub(crate) fn blocking<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime can be made")
                    .block_on(future)
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
