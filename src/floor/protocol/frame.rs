//! Frames: a length in bytes (u32, little endian), then that many bytes of JSON, which end with a line feed.

use std::io::{Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Maximum frame body in bytes; a longer length means a broken stream.
pub const MAX_FRAME: u32 = 64 << 20;

/// Why a stream is not a valid sequence of frames.
#[derive(Debug, Error)]
pub enum FrameError {
    /// Reading or writing failed.
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
    /// A length above the limit.
    #[error("a frame of {0} bytes is announced")]
    TooLong(u64),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Cut,
    /// A body that cannot be parsed.
    #[error("a frame's body is not understood: {0}")]
    Body(#[from] serde_json::Error),
}

/// The bytes of a frame. Errors: too long, not serializable.
pub fn encode_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut body = serde_json::to_vec(value)?;
    // Launchers such as srun pass whole lines on, and keep the rest back.
    body.push(b'\n');
    encode_bytes(&body)
}

/// The bytes of a frame with this body. Error: too long.
pub(super) fn encode_bytes(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or(FrameError::TooLong(body.len() as u64))?;
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Writes a frame and flushes. Errors: the stream's.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, value: &T) -> Result<(), FrameError> {
    stream.write_all(&encode_frame(value)?)?;
    stream.flush()?;
    Ok(())
}

/// Reads a frame; `None` at the end of the stream. Errors: truncated, too long, not parsable.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let body = read_bytes(stream)?;
    Ok(body.map(|body| serde_json::from_slice(&body)).transpose()?)
}

/// Reads the body of a frame; `None` at the end of the stream. Errors: truncated, too long.
pub(super) fn read_bytes(stream: &mut impl Read) -> Result<Option<Vec<u8>>, FrameError> {
    let mut length = [0; 4];
    match stream.read(&mut length)? {
        0 => return Ok(None),
        read => fill(stream, &mut length[read..])?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length.into()));
    }
    let mut body = vec![0; length as usize];
    fill(stream, &mut body)?;
    Ok(Some(body))
}

/// Takes a complete frame off the front of a buffer; `None` if it is incomplete. Errors: too long, not parsable.
pub fn split_frame<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Option<T>, FrameError> {
    let Some(head) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length.into()));
    }
    let end = 4 + length as usize;
    if buffer.len() < end {
        return Ok(None);
    }
    let value = serde_json::from_slice(&buffer[4..end])?;
    buffer.drain(..end);
    Ok(Some(value))
}

fn fill(stream: &mut impl Read, bytes: &mut [u8]) -> Result<(), FrameError> {
    stream.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Cut,
        _ => FrameError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Seconds, Tokens};
    use crate::protocol::{Event, StepReport};

    fn step(loss: f64) -> Event {
        let (tokens, seconds) = (Tokens(9), Seconds(0.5));
        Event::Step {
            member: 0,
            report: StepReport {
                step: 1,
                steps: 2,
                loss,
                validation_loss: None,
                learning_rate: 1e-4,
                tokens,
                seconds,
            },
        }
    }

    #[test]
    fn a_frame_reads_back_and_the_end_is_none() {
        let bytes = encode_frame(&step(2.5)).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read_frame::<Event>(&mut stream).unwrap(), Some(step(2.5)));
        assert_eq!(read_frame::<Event>(&mut stream).unwrap(), None);
    }

    #[test]
    fn a_frame_ends_a_line_for_launchers_that_pass_on_whole_lines() {
        assert_eq!(encode_frame(&Event::Pass).unwrap().last(), Some(&b'\n'));
    }

    #[test]
    fn a_loss_that_is_no_number_arrives_as_such() {
        let bytes = encode_frame(&step(f64::NAN)).unwrap();
        let Some(Event::Step { report, .. }) = read_frame(&mut bytes.as_slice()).unwrap() else {
            panic!("no step")
        };
        assert!(report.loss.is_nan());
    }

    #[test]
    fn a_stream_cut_at_any_byte_is_noticed() {
        let bytes = encode_frame(&step(2.5)).unwrap();
        for length in 1..bytes.len() {
            let result = read_frame::<Event>(&mut &bytes[..length]);
            assert!(matches!(result, Err(FrameError::Cut)), "{length}: {result:?}");
            let mut buffer = bytes[..length].to_vec();
            assert!(matches!(split_frame::<Event>(&mut buffer), Ok(None)), "{length}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_allocates_nothing() {
        let result = read_frame::<Event>(&mut [0xFF; 8].as_slice());
        assert!(matches!(result, Err(FrameError::TooLong(_))), "{result:?}");
    }
}
