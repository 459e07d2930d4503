//! Data sets: locating rows, turning rows into prompts and responses, and encoding them as tokens and labels.

mod cache;
mod chat;
mod dataset_location;
mod error;
mod example;
mod generated;
mod preset;
mod rows;
mod source;
mod table;
mod template;

pub use cache::{read_checked, read_encoded, write_checked, write_encoded};
pub use chat::{Chat, ChatSource, ChatTemplate, Message};
pub use dataset_location::{DatasetLocation, PARQUET_REVISION};
pub use error::DataError;
pub use example::{Encoded, Encoding, Example, encode_rows};
pub use generated::{Arithmetic, Split};
pub use preset::{PRESETS, Preset, PresetOrigin, find_preset};
pub use rows::{Row, read_rows};
pub use source::{DataRoots, DataSource};
pub use template::{Part, RenderError, Rendered, Template};
