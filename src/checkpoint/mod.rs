//! Checkpoints on disk: what a model is (configuration, shapes, identity) and the bytes of its tensors. Every file
//! is hostile until parsed: sizes are checked against the file before anything is allocated.

mod architecture;
mod catalogue;
mod error;
mod folder;
pub mod gguf;
mod names;
mod open;
mod parameters;
mod safetensors_file;
mod tensor;
mod tokenizer;

pub use architecture::ModelConfig;
pub use catalogue::{KnownModel, find_known};
pub use error::CheckpointError;
pub use folder::read_config;
pub use names::{ATTENTION_AND_MLP, LayerName, Projection};
pub use open::{Checkpoint, FileDigests};
pub use parameters::trainable_parameters;
pub use safetensors_file::{SafetensorsFile, write_safetensors};
pub use tensor::{Elements, TensorData, TensorInfo};
pub use tokenizer::{ModelTokenizer, TokenizerError};
