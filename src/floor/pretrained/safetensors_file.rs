//! safetensors files, read through a memory map and written atomically.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};

use super::error::CheckpointError;
use super::tensor::{Elements, TensorData, TensorInfo};

/// An open safetensors file whose header has been checked against its size.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data: usize,
}

impl SafetensorsFile {
    /// Opens and checks a file. Errors: missing, truncated or hostile header.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read only, and checkpoints are not edited in place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let malformed = |e: &dyn std::fmt::Display| CheckpointError::Malformed {
            path: path.to_owned(),
            reason: format!("as safetensors: {e}"),
        };
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|e| malformed(&e))?;
        // `deserialize` also checks that the directory covers the rest of the file exactly.
        SafeTensors::deserialize(&map).map_err(|e| malformed(&e))?;
        Ok(Self { path: path.to_owned(), map, metadata, data: header + 8 })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name, shape and type of every tensor.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let mut infos: Vec<TensorInfo> = self
            .metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| TensorInfo {
                name,
                shape: info.shape.iter().map(|&n| n as u64).collect(),
                stored_as: format!("{:?}", info.dtype),
            })
            .collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    }

    /// The names of all tensors.
    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Whether two tensors have the same type, shape and bytes. Error: absent.
    pub(super) fn equals(&self, name: &str, other: &Self, other_name: &str) -> Result<bool, CheckpointError> {
        Ok(self.bytes(name)? == other.bytes(other_name)?)
    }

    /// Checks the type. Error: absent, or not read as numbers.
    pub(super) fn check_readable(&self, name: &str) -> Result<(), CheckpointError> {
        match self.bytes(name)? {
            (_, Dtype::F32 | Dtype::F16 | Dtype::BF16, _) => Ok(()),
            (_, other, _) => Err(self.unsupported(name, other)),
        }
    }

    /// Whether the file has this tensor.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Name, shape and type of one tensor. Error: absent.
    pub fn info(&self, name: &str) -> Result<TensorInfo, CheckpointError> {
        let (shape, dtype, _) = self.bytes(name)?;
        Ok(TensorInfo { name: name.to_owned(), shape, stored_as: format!("{dtype:?}") })
    }

    /// A tensor of bytes. Errors: absent, or of another type.
    pub fn read_bytes(&self, name: &str) -> Result<(Vec<u64>, &[u8]), CheckpointError> {
        let (shape, dtype, bytes) = self.bytes(name)?;
        match dtype {
            Dtype::U8 => Ok((shape, bytes)),
            other => Err(self.unsupported(name, other)),
        }
    }

    /// Releases a tensor's pages, so a file being read does not stay in memory beside its converted tensors. Later
    /// reads load them from the file again.
    pub(super) fn release(&self, name: &str) {
        if let Some(info) = self.metadata.info(name) {
            let (start, end) = info.data_offsets;
            release(&self.map, self.data + start, end - start);
        }
    }

    /// A floating-point tensor. Errors: absent, or of another type.
    pub fn read(&self, name: &str) -> Result<TensorData, CheckpointError> {
        let (shape, dtype, bytes) = self.bytes(name)?;
        let elements = match dtype {
            Dtype::F32 => Elements::F32(elements(bytes, f32::from_le_bytes)),
            Dtype::F16 => Elements::F16(elements(bytes, f16::from_le_bytes)),
            Dtype::BF16 => Elements::Bf16(elements(bytes, bf16::from_le_bytes)),
            other => return Err(self.unsupported(name, other)),
        };
        Ok(TensorData { shape, elements })
    }

    /// An integer tensor of 64 bits. Errors: absent, or of another type.
    pub fn read_integers(&self, name: &str) -> Result<(Vec<u64>, Vec<i64>), CheckpointError> {
        let (shape, dtype, bytes) = self.bytes(name)?;
        match dtype {
            Dtype::I64 => Ok((shape, elements(bytes, i64::from_le_bytes))),
            other => Err(self.unsupported(name, other)),
        }
    }

    fn bytes(&self, name: &str) -> Result<(Vec<u64>, Dtype, &[u8]), CheckpointError> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| CheckpointError::NoTensor { path: self.path.clone(), name: name.to_owned() })?;
        let (start, end) = info.data_offsets;
        let shape = info.shape.iter().map(|&n| n as u64).collect();
        Ok((shape, info.dtype, &self.map[self.data + start..self.data + end]))
    }

    /// A tensor's bytes, of any type. Error: absent.
    pub(super) fn raw(&self, name: &str) -> Result<&[u8], CheckpointError> {
        Ok(self.bytes(name)?.2)
    }

    fn unsupported(&self, name: &str, dtype: Dtype) -> CheckpointError {
        CheckpointError::TensorType {
            path: self.path.clone(),
            name: name.to_owned(),
            stored_as: format!("{dtype:?}"),
        }
    }
}

/// Releases pages of a file's map; failing only costs memory.
pub(super) fn release(map: &Mmap, start: usize, len: usize) {
    // SAFETY: the map is read only and file-backed, so dropped pages are reloaded with the same bytes.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, len) };
}

fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let mut array = [0; N];
    let convert = |chunk: &[u8]| {
        array.copy_from_slice(chunk);
        read(array)
    };
    bytes.chunks_exact(N).map(convert).collect()
}

/// Writes f32 tensors as a safetensors file, ordered by name, with string metadata, atomically. Error: I/O.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
    metadata: HashMap<String, String>,
) -> std::io::Result<()> {
    let data = |(name, shape, values): &(String, Vec<usize>, Vec<f32>)| {
        let shape = shape.iter().map(|&n| n as u64).collect();
        (name.clone(), TensorData { shape, elements: Elements::F32(values.clone()) })
    };
    write_tensors(path, &tensors.iter().map(data).collect::<Vec<_>>(), metadata)
}

/// Writes tensors as a safetensors file, ordered by name, with string metadata, atomically. Error: I/O.
pub(super) fn write_tensors(
    path: &Path,
    tensors: &[(String, TensorData)],
    metadata: HashMap<String, String>,
) -> std::io::Result<()> {
    let bytes: Vec<(Dtype, Vec<u8>)> = tensors
        .iter()
        .map(|(_, tensor)| match &tensor.elements {
            Elements::F32(values) => (Dtype::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::F16(values) => (Dtype::F16, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::Bf16(values) => (Dtype::BF16, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        })
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, tensor), (dtype, data))| {
            let shape = tensor.shape.iter().map(|&n| n as usize).collect();
            Ok((name, TensorView::new(*dtype, shape, data)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(std::io::Error::other)?;
    let beside = path.with_extension("partial");
    safetensors::serialize_to_file(views, Some(metadata), &beside).map_err(|error| match error {
        // A full disk must be distinguished from a malformed tensor.
        safetensors::SafeTensorError::IoError(error) => error,
        other => std::io::Error::other(other),
    })?;
    File::open(&beside)?.sync_all()?;
    std::fs::rename(&beside, path)?;
    crate::pretrained::sync_parent(path)
}
