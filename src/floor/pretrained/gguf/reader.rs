//! A bounds-checked byte cursor that verifies every length before using it.

use std::path::{Path, PathBuf};

use crate::pretrained::CheckpointError;

/// Reads little-endian values from a slice.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    path: PathBuf,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], path: &Path) -> Self {
        Self { bytes, at: 0, path: path.to_owned() }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Remaining bytes.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Malformed { path: self.path.clone(), reason: reason.into() }
    }

    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], CheckpointError> {
        if len > self.left() as u64 {
            return Err(CheckpointError::Truncated {
                path: self.path.clone(),
                what: what.to_owned(),
                needed: (self.at as u64).saturating_add(len),
                size: self.bytes.len() as u64,
            });
        }
        let start = self.at;
        self.at += len as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], CheckpointError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, CheckpointError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, CheckpointError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, CheckpointError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, CheckpointError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<String, CheckpointError> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| self.malformed(format!("{what} is not UTF-8")))
    }

    /// A count of items that take at least `least` bytes each; an error if the rest of the file cannot hold them.
    pub(super) fn count(&mut self, least: u64, what: &str) -> Result<usize, CheckpointError> {
        let count = self.u64(what)?;
        if count > self.left() as u64 / least {
            return Err(self.malformed(format!("{count} {what} cannot fit in the file")));
        }
        Ok(count as usize)
    }
}
