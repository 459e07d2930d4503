//! The heartbeat of a process's attempts: a thread with its own connection, so that the main loop cannot delay it.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::pretrained::FileStamp;
use crate::queue::Owner;
use crate::store::open::Store;

/// Interval of heartbeats.
const EVERY: Duration = Duration::from_secs(2);

/// Sends heartbeats until it is dropped.
pub struct Heartbeat {
    /// Dropped to end the thread.
    ends: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Sends heartbeats for every open attempt of an owner. A database that cannot be opened is tried again at each heartbeat.
    pub(in crate::store) fn start(database: &Store, owner: Owner) -> Self {
        let (ends, ended) = channel();
        let (path, opened) = (database.path().to_owned(), *database.stamp());
        let beat = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let mut store = None;
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                runtime.block_on(once(&mut store, (&path, &opened), &owner));
            }
        };
        Self { ends: Some(ends), thread: Some(std::thread::spawn(beat)) }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.ends.take());
        if let Some(thread) = self.thread.take() {
            // A heartbeat that waits for a locked database ends with its patience.
            let _ = thread.join();
        }
    }
}

async fn once(store: &mut Option<Store>, (path, opened): (&Path, &FileStamp), owner: &Owner) {
    if store.is_none() {
        *store = Store::again(path, opened).await.ok();
    }
    let Some(open) = store.as_ref() else { return };
    if let Err(error) = open.beat(owner).await {
        tracing::warn!("the heartbeat was not written: {error}");
        *store = None;
    }
}
