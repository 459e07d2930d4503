//! Models and data sets from a Hugging Face hub: downloading and caching; and models to it. The cache has the layout of Hugging Face's
//! own clients, so each finds the other's downloads.
//!
//! Only safetensors, JSON and tokenizer files of models and tables of data sets are downloaded, each checked against
//! the hub's hash. An interrupted download resumes. The token is sent only to the endpoint's own host.

mod cache;
mod client;
mod environment;
mod error;
mod pull;
mod push;
mod repository_id;
mod tables;

pub use cache::{COMPLETE, Cache};
pub use environment::{Hub, Token};
pub use error::HubError;
pub use pull::{Pulled, Transfer};
pub use push::Pushed;
pub use repository_id::{RepositoryId, RepositoryKind};
pub use tables::Tables;
