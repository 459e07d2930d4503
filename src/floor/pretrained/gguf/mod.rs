//! GGUF files: header, metadata and quantized blocks (format by ggml-org, versions 2 and 3, little endian).

mod blocks;
mod header;
mod k_quants;
mod metadata;
mod reader;

pub use blocks::BlockType;
pub use header::{Gguf, GgufTensor};
pub use metadata::MetaValue;
