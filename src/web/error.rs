//! Why nothing can be served.

use thiserror::Error;

/// Why a server does not start or ended.
#[derive(Debug, Error)]
pub enum WebError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Host and port.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Other machines could connect without a token.
    #[error("{0} accepts connections from other machines, which needs a token")]
    NoToken(String),
    /// A token that nobody could send.
    #[error("the token is empty, or has characters that no header can have")]
    BadToken,
    /// The connections failed.
    #[error("the server failed: {0}")]
    Serve(std::io::Error),
}
