//! GGUF key-value metadata.

use super::reader::Reader;
use crate::pretrained::CheckpointError;

/// A metadata value. Integers of all widths are one variant.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    /// Any unsigned or signed integer.
    Integer(i128),
    /// A float of either width.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of integers.
    Integers(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
}

impl MetaValue {
    /// Reads a value with its type tag.
    pub(super) fn read(reader: &mut Reader<'_>, key: &str) -> Result<Self, CheckpointError> {
        let tag = reader.u32(key)?;
        match tag {
            9 => Self::read_list(reader, key),
            _ => Self::read_scalar(reader, tag, key),
        }
    }

    fn read_scalar(reader: &mut Reader<'_>, tag: u32, key: &str) -> Result<Self, CheckpointError> {
        Ok(match tag {
            0 => Self::Integer(reader.u8(key)?.into()),
            1 => Self::Integer((reader.u8(key)? as i8).into()),
            2 => Self::Integer(reader.u16(key)?.into()),
            3 => Self::Integer((reader.u16(key)? as i16).into()),
            4 => Self::Integer(reader.u32(key)?.into()),
            5 => Self::Integer((reader.u32(key)? as i32).into()),
            6 => Self::Float(f32::from_bits(reader.u32(key)?).into()),
            7 => Self::Bool(reader.u8(key)? != 0),
            8 => Self::Text(reader.text(key)?),
            10 => Self::Integer(reader.u64(key)?.into()),
            11 => Self::Integer((reader.u64(key)? as i64).into()),
            12 => Self::Float(f64::from_bits(reader.u64(key)?)),
            other => return Err(reader.malformed(format!("metadata '{key}' has unknown type {other}"))),
        })
    }

    fn read_list(reader: &mut Reader<'_>, key: &str) -> Result<Self, CheckpointError> {
        let tag = reader.u32(key)?;
        let least = match tag {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => return Err(reader.malformed(format!("metadata '{key}' is a list of type {other}"))),
        };
        let count = reader.count(least, key)?;
        match tag {
            8 => (0..count).map(|_| reader.text(key)).collect::<Result<_, _>>().map(Self::Texts),
            6 => (0..count)
                .map(|_| reader.u32(key).map(f32::from_bits))
                .collect::<Result<_, _>>()
                .map(Self::Floats),
            12 => (0..count)
                .map(|_| reader.u64(key).map(|bits| f64::from_bits(bits) as f32))
                .collect::<Result<_, _>>()
                .map(Self::Floats),
            _ => (0..count)
                .map(|_| match Self::read_scalar(reader, tag, key)? {
                    Self::Integer(n) => {
                        i64::try_from(n).map_err(|_| reader.malformed(format!("'{key}' overflows")))
                    }
                    Self::Bool(b) => Ok(b.into()),
                    _ => Err(reader.malformed(format!("'{key}' mixes types"))),
                })
                .collect::<Result<_, _>>()
                .map(Self::Integers),
        }
    }
}
