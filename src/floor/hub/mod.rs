//! Models and data sets from a Hugging Face hub: what is read, and where it is kept. The cache has the layout of Hugging Face's own
//! clients, so that both find what the other brought.
//!
//! Only safetensors, JSON and tokenizer files of models and tables of data sets are brought, each checked against the hub's hash; a download that was cut
//! off continues where it ended. The token goes to the endpoint's own host and nowhere else.

mod cache;
mod client;
mod environment;
mod error;
mod pull;
mod repository_id;
mod tables;

pub use cache::{COMPLETE, Cache};
pub use environment::{Hub, Token};
pub use error::HubError;
pub use pull::{Pulled, Transfer};
pub use repository_id::{RepositoryId, RepositoryKind};
pub use tables::Tables;
