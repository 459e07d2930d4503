//! An address, and what is served on it until it is to end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use super::error::WebError;

/// How long requests may go on when the server is to end.
const GRACE: Duration = Duration::from_secs(5);

/// An address that is listened on.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    /// The address; its port is a free one where none was named.
    pub address: SocketAddr,
}

impl Listener {
    /// Listens on a host and port; 0 is any free port. Error: the address cannot be had.
    pub async fn bind(host: &str, port: u16) -> Result<Self, WebError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let failed = |source| WebError::Bind { address: format!("{host} port {port}"), source };
        let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }
}

/// Serves until `end`; then requests in progress get a moment. Error: the connections failed.
pub async fn serve(
    listener: Listener,
    router: Router,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WebError> {
    let (ending, ended) = tokio::sync::oneshot::channel();
    let signal = async move {
        end.await;
        // The other end is dropped with this server only.
        let _ = ending.send(());
    };
    let serving = axum::serve(listener.listener, router).with_graceful_shutdown(signal).into_future();
    let late = async {
        match ended.await {
            Ok(()) => tokio::time::sleep(GRACE).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = serving => result.map_err(WebError::Serve),
        () = late => Ok(()),
    }
}
