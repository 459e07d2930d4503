//! Checkpoints on disk: a model's configuration, shapes and identity, and its tensors' bytes. No file is trusted: sizes
//! are checked against the file before anything is allocated.

mod architecture;
mod bnb;
mod catalogue;
mod config_json;
mod error;
mod folder;
mod generation_defaults;
pub mod gguf;
mod gguf_adapter;
mod gguf_config;
mod names;
mod open;
mod parameters;
mod safetensors_file;
mod stamp;
mod sync;
mod tensor;
mod tensor_location;
mod tokenizer;
mod writer;

pub use architecture::{
    Activation, Biases, BlockForm, Family, LayerForm, LlamaSizes, ModelConfig, Norm, QkvRows, QueryKeyNorm,
    Rope, RopeScaling,
};
pub use bnb::{StoredDType, StoredFourBit};
pub use catalogue::{KnownModel, find_known};
pub use config_json::read_config;
pub use error::CheckpointError;
pub use generation_defaults::GenerationDefaults;
pub use gguf_adapter::{GgufAdapter, write_gguf_adapter};
pub use names::{LayerName, NormPlace, Part, Projection};
pub use open::{Checkpoint, FileDigests, Stored};
pub use parameters::trainable_parameters;
pub use safetensors_file::{SafetensorsFile, write_safetensors};
pub use stamp::FileStamp;
pub use sync::{sync_folder, sync_parent};
pub use tensor::{Elements, TensorData, TensorInfo};
pub use tensor_location::TensorLocation;
pub use tokenizer::{ModelTokenizer, TextStream, TokenizerError};
pub use writer::{FolderWriter, write_model_files};
