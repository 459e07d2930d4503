//! Encoded rows on disk, cached by data set, template, tokenizer and encoding options.
//!
//! Layout, little endian: `LGTOK2\0\0`, length of the notes u64, the notes as JSON, rows u64, truncated u64, dropped u64; per row its
//! length u32, its tokens as u32, one byte per token that is 1 if scored; then the SHA-256 of the above in hexadecimal.

use std::path::Path;

use super::example::{Encoded, Example};
use crate::job::Digest;
use crate::pretrained::sync_parent;

const MAGIC: &[u8; 8] = b"LGTOK2\0\0";
/// Length of the digest at the end.
const TAIL: usize = 64;

/// Writes encoded rows atomically. Error: I/O.
pub fn write_encoded(path: &Path, encoded: &Encoded) -> std::io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    let notes = serde_json::to_vec(&encoded.notes).map_err(std::io::Error::other)?;
    bytes.extend((notes.len() as u64).to_le_bytes());
    bytes.extend(notes);
    for number in [encoded.examples.len() as u64, encoded.truncated, encoded.dropped] {
        bytes.extend(number.to_le_bytes());
    }
    for example in &encoded.examples {
        bytes.extend((example.tokens.len() as u32).to_le_bytes());
        bytes.extend(example.tokens.iter().flat_map(|token| token.to_le_bytes()));
        bytes.extend(example.scored.iter().map(|scored| u8::from(*scored)));
    }
    write_checked(path, bytes)
}

/// Writes a cache file with its checksum, atomically. Error: I/O.
pub fn write_checked(path: &Path, mut bytes: Vec<u8>) -> std::io::Result<()> {
    bytes.extend(Digest::of(&bytes).to_string().as_bytes());
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let mut file = std::fs::File::create(&partial)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    // An order in the database may name the file from now on.
    sync_parent(path)
}

/// Reads a cache file. `None`: it does not exist, or its checksum is wrong.
pub fn read_checked(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let body = bytes.len().checked_sub(TAIL)?;
    if Digest::of(&bytes[..body]).to_string().as_bytes() != &bytes[body..] {
        return None;
    }
    bytes.truncate(body);
    Some(bytes)
}

/// Reads encoded rows. `None`: missing or damaged; they are then encoded again.
pub fn read_encoded(path: &Path) -> Option<Encoded> {
    let body = read_checked(path)?;
    let mut rest = body.strip_prefix(MAGIC)?;
    let length = usize::try_from(take_u64(&mut rest)?).ok()?;
    let (notes, after) = rest.split_at_checked(length)?;
    rest = after;
    let notes = serde_json::from_slice(notes).ok()?;
    let rows = take_u64(&mut rest)?;
    let mut encoded = Encoded {
        examples: Vec::new(),
        truncated: take_u64(&mut rest)?,
        dropped: take_u64(&mut rest)?,
        notes,
    };
    for _ in 0..rows {
        let length = u32::from_le_bytes(*take::<4>(&mut rest)?) as usize;
        let (tokens, after) = rest.split_at_checked(length.checked_mul(4)?)?;
        let (scored, after) = after.split_at_checked(length)?;
        rest = after;
        let token = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        encoded.examples.push(Example {
            tokens: tokens.chunks_exact(4).map(token).collect(),
            scored: scored.iter().map(|byte| *byte == 1).collect(),
        });
    }
    rest.is_empty().then_some(encoded)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(head)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take::<8>(rest).map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_was_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.tokens");
        let example = |n: u32| Example { tokens: vec![n, n + 1], scored: vec![false, true] };
        let encoded = Encoded {
            examples: vec![example(1), example(7)],
            truncated: 3,
            dropped: 1,
            notes: [("a note".to_owned(), 2)].into(),
        };
        write_encoded(&path, &encoded).unwrap();
        assert_eq!(read_encoded(&path), Some(encoded));
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert_eq!(read_encoded(&path), None, "cut at {length}");
        }
    }
}
