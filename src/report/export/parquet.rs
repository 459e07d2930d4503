//! Apache Parquet.

use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError as Broken;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use thiserror::Error;

use crate::job::{KeyKind, find_key};
use crate::store::{Datum, Frame};

/// A file that cannot be written.
#[derive(Debug, Error)]
#[error("the Parquet file cannot be written: {0}")]
pub struct ParquetError(#[from] Broken);

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Integer,
    Real,
    Text,
}

impl Kind {
    /// The type of an empty column, so that files of several sweeps are compatible: a key's type, else numbers.
    fn of_name(name: &str) -> Self {
        match find_key(name).map(|key| key.kind) {
            Some(KeyKind::Bool) => Self::Bool,
            Some(KeyKind::Integer { .. }) => Self::Integer,
            Some(KeyKind::Number { .. }) => Self::Real,
            Some(_) => Self::Text,
            None if name == "reason" => Self::Text,
            None => Self::Real,
        }
    }

    /// The narrowest type that holds every value of a column.
    fn of(frame: &Frame, at: usize) -> Self {
        let empty = Self::of_name(&frame.columns[at]);
        let kind = |value: &Datum| match value {
            Datum::Null => None,
            Datum::Bool(_) => Some(Self::Bool),
            Datum::Integer(_) => Some(Self::Integer),
            Datum::Real(_) => Some(Self::Real),
            Datum::Text(_) => Some(Self::Text),
        };
        let both = |a: Self, b: Self| match (a, b) {
            (a, b) if a == b => a,
            (Self::Integer, Self::Real) | (Self::Real, Self::Integer) => Self::Real,
            _ => Self::Text,
        };
        frame.rows.iter().filter_map(|row| kind(&row[at])).reduce(both).unwrap_or(empty)
    }

    fn column(self, name: &str) -> Result<TypePtr, Broken> {
        let (physical, logical) = match self {
            Self::Bool => (Physical::BOOLEAN, None),
            Self::Integer => (Physical::INT64, None),
            Self::Real => (Physical::DOUBLE, None),
            Self::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let column = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(column.with_logical_type(logical).build()?))
    }
}

/// A frame as a file of one row group, compressed with Zstandard; every column is nullable. Error: a name or value that the format does
/// not support.
pub fn frame_parquet(frame: &Frame) -> Result<Vec<u8>, ParquetError> {
    let kinds: Vec<Kind> = (0..frame.columns.len()).map(|at| Kind::of(frame, at)).collect();
    let fields = frame.columns.iter().zip(&kinds).map(|(name, kind)| kind.column(name));
    let schema =
        Type::group_type_builder("loragrid").with_fields(fields.collect::<Result<_, _>>()?).build()?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(Default::default())).build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let mut at = 0;
    while let Some(mut column) = group.next_column()? {
        let values = || frame.rows.iter().map(|row| &row[at]).filter(|value| is_there(value));
        let levels: Vec<i16> = frame.rows.iter().map(|row| i16::from(is_there(&row[at]))).collect();
        match column.untyped() {
            ColumnWriter::BoolColumnWriter(writer) => {
                let batch: Vec<bool> = values().map(|value| *value == Datum::Bool(true)).collect();
                writer.write_batch(&batch, Some(&levels), None)?;
            }
            ColumnWriter::Int64ColumnWriter(writer) => {
                let batch: Vec<i64> =
                    values().map(|value| if let Datum::Integer(n) = value { *n } else { 0 }).collect();
                writer.write_batch(&batch, Some(&levels), None)?;
            }
            ColumnWriter::DoubleColumnWriter(writer) => {
                let number = |value: &Datum| match value {
                    Datum::Integer(number) => *number as f64,
                    Datum::Real(number) => *number,
                    _ => f64::NAN,
                };
                let batch: Vec<f64> = values().map(number).collect();
                writer.write_batch(&batch, Some(&levels), None)?;
            }
            ColumnWriter::ByteArrayColumnWriter(writer) => {
                let batch: Vec<ByteArray> = values().map(|value| value.plain().into_bytes().into()).collect();
                writer.write_batch(&batch, Some(&levels), None)?;
            }
            _ => return Err(Broken::General("a column of another kind".to_owned()).into()),
        }
        column.close()?;
        at += 1;
    }
    group.close()?;
    Ok(file.into_inner()?)
}

fn is_there(value: &Datum) -> bool {
    !matches!(value, Datum::Null) && !matches!(value, Datum::Real(number) if number.is_nan())
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn names_kinds_and_values_read_back() {
        let columns = ["a,b", "50 %", "a_\"b\"", "mixed"].map(str::to_owned).to_vec();
        let rows = vec![
            vec![Datum::Text("x\ny".into()), Datum::Integer(i64::MAX), Datum::Real(0.1), Datum::Integer(1)],
            vec![Datum::Null, Datum::Integer(-1), Datum::Real(f64::NAN), Datum::Text("one".into())],
        ];
        let bytes = frame_parquet(&Frame { columns: columns.clone(), rows }).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let read: Vec<serde_json::Value> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_json_value()).collect();
        let wanted = [
            serde_json::json!({ "a,b": "x\ny", "50 %": i64::MAX, "a_\"b\"": 0.1, "mixed": "1" }),
            serde_json::json!({ "a,b": null, "50 %": -1, "a_\"b\"": null, "mixed": "one" }),
        ];
        assert_eq!(read, wanted);
    }
}
