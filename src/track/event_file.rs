//! TensorBoard's files: records of a length and bytes, each with a masked CRC-32C (TFRecord).

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::protobuf::Message;

/// A file that events are added to.
#[derive(Debug)]
pub(super) struct EventFile(File);

impl EventFile {
    /// A new file, which begins with its version.
    pub(super) fn create(path: &Path, wall_time: f64) -> std::io::Result<Self> {
        let mut file = Self(File::create_new(path)?);
        file.write(&[Message::default().double(1, wall_time).bytes(3, b"brain.Event:2")])?;
        Ok(file)
    }

    /// Adds events, which are on the disk then.
    pub(super) fn write(&mut self, events: &[Message]) -> std::io::Result<()> {
        let records: Vec<u8> = events.iter().flat_map(|event| record(&event.0)).collect();
        self.0.write_all(&records)?;
        self.0.sync_data()
    }
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = length.to_vec();
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

/// A checksum of data with checksums in it would be weak: it is turned and moved.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Castagnoli's polynomial, reflected.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
