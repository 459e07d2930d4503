//! Connecting to the server, and transactions that outlast its restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use sqlx::Row;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};

use super::active::KnownActive;
use super::address::ServerAddress;
use crate::artifacts::Artifacts;
use crate::store::error::StoreError;
use crate::store::maintenance::Patience;

/// The channel on which workers are told of news.
const CHANNEL: &str = "loragrid";
/// Connections: of the listener, of the right to remove adapters, of the file that is brought up to date, of the queue. The heartbeat has
/// one of its own.
const CONNECTIONS: u32 = 4;
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// Pauses between two tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A PostgreSQL database with the queue. Clones share its connections.
#[derive(Debug, Clone)]
pub(in crate::store) struct Server {
    pub(super) pool: PgPool,
    pub(super) address: ServerAddress,
    /// The folder of results.
    pub(super) results: PathBuf,
    /// Where adapters are.
    artifacts: Artifacts,
    patience: Patience,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Counts what workers were told.
    pub(super) news: AtomicI64,
    pub(super) active: Mutex<KnownActive>,
    /// When the server was last asked for what nobody told.
    pub(super) polled: Mutex<Option<Instant>>,
    /// The name of this client, and how many steps it took.
    pub(super) client: String,
    pub(super) steps: AtomicI64,
}

impl Server {
    /// Connects, and makes or upgrades the tables. Errors: [`StoreError::Server`], [`StoreError::ServerSchema`].
    pub(in crate::store) async fn connect(
        address: &ServerAddress,
        (results, artifacts): (PathBuf, Artifacts),
    ) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Server { address: address.clone(), source };
        let options = address.options().map_err(|error| failed(sqlx::Error::Configuration(error.into())))?;
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(CONNECTING);
        let pool = pool.connect_with(options).await.map_err(failed)?;
        upgrade(&pool, address).await?;
        let client = format!("{}-{:x}", crate::queue::Owner::this_process().as_str(), random());
        let shared = Arc::new(Shared { client, ..Shared::default() });
        let (address, patience) = (address.clone(), Patience::default());
        Ok(Self { pool, address, results, artifacts, patience, shared })
    }

    /// Whether the adapter of a recorded training is where adapters are.
    pub(super) fn has_adapter(&self, subject: &str) -> bool {
        self.artifacts.store().is_some() || self.results.join("adapters").join(subject).is_dir()
    }

    /// The same server with this patience for writes while it is away.
    pub(in crate::store) fn with(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Which server this is, wherever it is found.
    pub(in crate::store) async fn identity(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar("SELECT id FROM server_identity").fetch_one(&self.pool).await?)
    }

    /// The server's version.
    pub(in crate::store) async fn version(&self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar("SHOW server_version").fetch_one(&self.pool).await?)
    }

    /// Closes its connections.
    pub(in crate::store) async fn close(&self) {
        self.pool.close().await;
    }

    /// Counts news from now on, for as long as the runtime lives. What was missed while the connection was away counts as news.
    pub(in crate::store) fn listen(&self) {
        let (pool, news) = (self.pool.clone(), Arc::downgrade(&self.shared));
        tokio::spawn(async move {
            loop {
                if let Ok(mut listener) = PgListener::connect_with(&pool).await
                    && listener.listen(CHANNEL).await.is_ok()
                {
                    loop {
                        let heard = listener.try_recv().await;
                        let Some(shared) = news.upgrade() else { return };
                        shared.news.fetch_add(1, Ordering::Relaxed);
                        if heard.is_err() {
                            break;
                        }
                    }
                }
                if news.strong_count() == 0 || pool.is_closed() {
                    return;
                }
                tokio::time::sleep(PAUSES.1).await;
            }
        });
    }

    /// A new series of tries.
    pub(super) fn tries(&self) -> Tries<'_> {
        Tries { server: self, started: Instant::now(), pause: PAUSES.0, is_told: false }
    }
}

/// Tries at something that the server may not answer now.
pub(super) struct Tries<'s> {
    server: &'s Server,
    started: Instant,
    pause: Duration,
    is_told: bool,
}

impl Tries<'_> {
    /// The result, if it was the last try: while the server is away, or another transaction stood in the way, and the patience lasts, this
    /// waits for the next one.
    pub(super) async fn ended<T>(&mut self, tried: Result<T, StoreError>) -> Option<Result<T, StoreError>> {
        let address = &self.server.address;
        match tried {
            Err(StoreError::Sql(cause))
                if is_passing(&cause) && self.server.patience.lasts(self.started.elapsed()) =>
            {
                if self.pause == PAUSES.1 && !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!("the database {address} does not answer ({cause}); waiting for it");
                }
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSES.1);
                None
            }
            ended => {
                if ended.is_ok() && self.is_told {
                    tracing::warn!("the database {address} is back");
                }
                Some(ended)
            }
        }
    }
}

/// Gives a block its type.
pub(super) fn typed<T>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    result
}

/// The result of a block in a transaction, which is tried again as [`Tries`] has it. The block must come to the same if it was committed
/// before without this client hearing of it. A macro: futures of async closures are not known to be `Send`.
macro_rules! transaction {
    ($server:expr, |$tx:ident| $body:block) => {{
        let server: &Server = $server;
        let mut tries = server.tries();
        loop {
            let tried = async {
                let mut begun = server.pool.begin().await?;
                let $tx = &mut begun;
                let value = super::connection::typed(async { $body }.await)?;
                begun.commit().await?;
                Ok(value)
            };
            if let Some(ended) = tries.ended(tried.await).await {
                break ended;
            }
        }
    }};
}

/// The result of a block that reads, tried again as [`Tries`] has it.
macro_rules! reading {
    ($server:expr, |$pool:ident| $body:block) => {{
        let server: &Server = $server;
        let mut tries = server.tries();
        loop {
            let $pool = &server.pool;
            let tried = super::connection::typed(async { $body }.await);
            if let Some(ended) = tries.ended(tried).await {
                break ended;
            }
        }
    }};
}

pub(super) use {reading, transaction};

/// A number that no other client has.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Makes or upgrades the tables, one client at a time. A client of an earlier release does not use a newer server.
async fn upgrade(pool: &PgPool, address: &ServerAddress) -> Result<(), StoreError> {
    let migrator = sqlx::migrate!("migrations/postgres");
    let newest = migrator.iter().map(|migration| migration.version).max().unwrap_or_default();
    let is_there = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    if sqlx::query_scalar(is_there).fetch_one(pool).await? {
        let row = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success");
        let version: i64 = row.fetch_one(pool).await?.try_get(0)?;
        if version == newest {
            return Ok(());
        }
        if version > newest {
            return Err(StoreError::NewerServer { address: address.clone() });
        }
    }
    let migrated = migrator.run(pool).await;
    migrated.map_err(|source| StoreError::ServerSchema { address: address.clone(), source })
}

/// Whether a later try may succeed: the server is away or starts, or another transaction stood in the way.
fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Connections, shutdowns and starts, too many clients, serialization failures and deadlocks.
            code.starts_with("08") || code.starts_with("57P") || matches!(&*code, "53300" | "40001" | "40P01")
        }
        _ => false,
    }
}
