//! What the program serves over HTTP: pages over results, and models with OpenAI's API.

mod error;
mod guard;
mod listen;
pub mod openai;
pub mod pages;

pub use error::WebError;
pub use guard::{Access, Secret};
pub use listen::{Listener, serve};
