//! GGUF header and tensor directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::blocks::BlockType;
use super::metadata::MetaValue;
use super::reader::Reader;
use crate::pretrained::CheckpointError;
use crate::pretrained::safetensors_file::release;

/// Maximum number of dimensions in ggml.
const MAX_DIMENSIONS: u32 = 4;
/// Maximum number of split files to search for.
const MAX_PARTS: u64 = 999;
/// Default alignment of the data section, in bytes.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A tensor of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufTensor {
    /// Shape, slowest dimension first (GGUF stores the fastest first).
    pub shape: Vec<u64>,
    /// How its elements are stored.
    pub block_type: BlockType,
    /// First byte of its data in the file.
    start: u64,
    /// Length of its data in bytes.
    len: u64,
}

/// An open GGUF file: every tensor of the directory is inside it.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, MetaValue>,
    tensors: BTreeMap<String, GgufTensor>,
}

impl Gguf {
    /// Opens and checks a file. Errors: a missing, truncated or contradictory file, or an unsupported block type.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read only. If another process shortens the file, reads beyond its end raise SIGBUS;
        // checkpoints are not edited in place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let mut reader = Reader::new(&map, path);
        if reader.take(4, "the magic number")? != b"GGUF" {
            return Err(reader.malformed("it does not start with GGUF"));
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(CheckpointError::Unsupported {
                path: path.to_owned(),
                what: "GGUF version",
                name: version.to_string(),
            });
        }
        // A directory entry takes at least 24 bytes, a metadata entry at least 13.
        let tensor_count = reader.count(24, "tensors")?;
        let metadata_count = reader.count(13, "metadata entries")?;
        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.text("a metadata key")?;
            let value = MetaValue::read(&mut reader, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(reader.malformed(format!("metadata '{key}' appears twice")));
            }
        }
        let tensors = read_directory(&mut reader, tensor_count, &metadata, path)?;
        Ok(Self { path: path.to_owned(), map, metadata, tensors })
    }

    /// Error: the file is one shard of a split model.
    pub(in crate::pretrained) fn check_whole(&self) -> Result<(), CheckpointError> {
        let number = |key: &str| match self.meta(key) {
            Some(MetaValue::Integer(n)) => u64::try_from(*n).ok(),
            _ => None,
        };
        let Some(parts) = number("split.count").filter(|parts| *parts > 1) else { return Ok(()) };
        let part = number("split.no").unwrap_or_default() + 1;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = format!("-{part:05}-of-{parts:05}.gguf");
        let missing = match name.strip_suffix(&ending) {
            Some(stem) => (1..=parts.min(MAX_PARTS))
                .map(|other| format!("{stem}-{other:05}-of-{parts:05}.gguf"))
                .filter(|other| !self.path.with_file_name(other).is_file())
                .collect(),
            None => Vec::new(),
        };
        Err(CheckpointError::Split { path: self.path.clone(), part, parts, missing })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A metadata value.
    pub fn meta(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.get(key)
    }

    /// The directory, by the file's tensor names.
    pub fn tensors(&self) -> &BTreeMap<String, GgufTensor> {
        &self.tensors
    }

    /// All elements of a tensor as f32, row-major. Errors: tensor not found.
    pub fn dequantize(&self, name: &str) -> Result<(GgufTensor, Vec<f32>), CheckpointError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| CheckpointError::NoTensor { path: self.path.clone(), name: name.to_owned() })?;
        let bytes = &self.map[tensor.start as usize..(tensor.start + tensor.len) as usize];
        let values = tensor.block_type.dequantize(bytes);
        release(&self.map, tensor.start as usize, tensor.len as usize);
        Ok((tensor.clone(), values))
    }
}

/// A directory entry, before the offset of the data section is known.
struct Entry {
    name: String,
    shape: Vec<u64>,
    block_type: BlockType,
    offset: u64,
    len: u64,
}

fn read_directory(
    reader: &mut Reader<'_>,
    count: usize,
    metadata: &BTreeMap<String, MetaValue>,
    path: &Path,
) -> Result<BTreeMap<String, GgufTensor>, CheckpointError> {
    let entries: Vec<Entry> = (0..count).map(|_| read_entry(reader, path)).collect::<Result<_, _>>()?;
    let alignment = match metadata.get("general.alignment") {
        None => DEFAULT_ALIGNMENT,
        Some(MetaValue::Integer(n)) if (1..=1 << 20).contains(n) => *n as u64,
        Some(other) => {
            let found = match other {
                MetaValue::Integer(n) => n.to_string(),
                _ => "not a number".to_owned(),
            };
            return Err(reader.malformed(format!("general.alignment is {found}, expected 1 to 1,048,576")));
        }
    };
    let data = (reader.position() as u64).next_multiple_of(alignment);
    let size = reader.position() as u64 + reader.left() as u64;
    let mut tensors = BTreeMap::new();
    for Entry { name, shape, block_type, offset, len } in entries {
        let start = data.saturating_add(offset);
        let end = start.saturating_add(len);
        if end > size {
            let what = format!("tensor '{name}'");
            return Err(CheckpointError::Truncated { path: path.to_owned(), what, needed: end, size });
        }
        if tensors.insert(name.clone(), GgufTensor { shape, block_type, start, len }).is_some() {
            return Err(reader.malformed(format!("tensor '{name}' appears twice")));
        }
    }
    Ok(tensors)
}

fn read_entry(reader: &mut Reader<'_>, path: &Path) -> Result<Entry, CheckpointError> {
    let name = reader.text("a tensor's name")?;
    let dimensions = reader.u32("a tensor's dimensions")?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(reader.malformed(format!("tensor '{name}' has {dimensions} dimensions")));
    }
    let mut shape = (0..dimensions).map(|_| reader.u64("a tensor's shape")).collect::<Result<Vec<_>, _>>()?;
    shape.reverse();
    let tag = reader.u32("a tensor's type")?;
    let block_type = BlockType::from_tag(tag).map_err(|name| CheckpointError::Unsupported {
        path: path.to_owned(),
        what: "tensor type",
        name,
    })?;
    let offset = reader.u64("a tensor's offset")?;
    let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
    let row = shape.last().copied().unwrap_or_default();
    match elements {
        Some(elements) if elements > 0 && row % block_type.elements() == 0 => {
            let len = (elements / block_type.elements()).checked_mul(block_type.bytes());
            let len =
                len.ok_or_else(|| reader.malformed(format!("tensor '{name}' is larger than any file")))?;
            Ok(Entry { name, shape, block_type, offset, len })
        }
        _ => Err(reader.malformed(format!("tensor '{name}' has the impossible shape {shape:?}"))),
    }
}
