//! Data sets: where their rows are, how a row becomes a prompt and a response, and the tokens and labels of that.

mod error;
mod example;
mod generated;
mod rows;
mod source;
mod template;

pub use error::DataError;
pub use example::{Example, encode_example, encode_rows};
pub use generated::{Arithmetic, Split};
pub use rows::{Row, read_rows};
pub use source::{DataRoots, DataSource};
pub use template::Template;
