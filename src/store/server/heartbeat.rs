//! The heartbeat of a process's attempts: a thread with its own connection, so that the main loop cannot delay it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use super::connection::Server;
use crate::queue::Owner;

/// Interval of heartbeats.
const EVERY: Duration = Duration::from_secs(2);
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends heartbeats until it is dropped.
pub struct ServerHeartbeat {
    /// Dropped to end the thread.
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServerHeartbeat {
    /// Sends heartbeats for every open attempt of an owner. A server that is away is tried again at each heartbeat.
    pub(super) fn start(server: &Server, owner: Owner) -> Self {
        let (ends, ended) = channel();
        let options = server.address.options();
        let beat = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (Ok(runtime), Ok(options)) = (runtime, options) else { return };
            let mut connection = None;
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let once =
                    async { tokio::time::timeout(LIMIT, once(&mut connection, &options, &owner)).await };
                match runtime.block_on(once) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!("the heartbeat was not written: {error}");
                        connection = None;
                    }
                    Err(_) => connection = None,
                }
            }
        };
        Self { ends: Some(ends), thread: Some(std::thread::spawn(beat)) }
    }
}

impl Drop for ServerHeartbeat {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            // Nothing is left to do if it panicked.
            let _ = thread.join();
        }
    }
}

async fn once(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
    owner: &Owner,
) -> Result<(), sqlx::Error> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(options.connect().await?),
    };
    let beat = sqlx::query(
        "UPDATE job_attempts SET beat = beat + 1, beat_at = clock_timestamp() WHERE owner = $1 AND ended_ms IS NULL",
    );
    beat.bind(owner.as_str()).execute(open).await.map(drop)
}
