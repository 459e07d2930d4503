//! Comma-separated values as in RFC 4180.

use crate::store::Frame;

/// A frame with a header line; null is an empty field, and numbers are in their shortest exact spelling.
pub fn frame_csv(frame: &Frame) -> Vec<u8> {
    let mut out = csv::Writer::from_writer(Vec::new());
    // Writing to a vector cannot fail, and rows are as long as the header.
    let _ = out.write_record(&frame.columns);
    let mut field = String::new();
    for row in &frame.rows {
        for value in row {
            field.clear();
            value.push_plain(&mut field);
            let _ = out.write_field(&field);
        }
        let _ = out.write_record(None::<&[u8]>);
    }
    out.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Datum;

    #[test]
    fn names_with_signs_of_the_syntax_read_back() {
        let hostile = ["a,b", "50 %", "a_b", "say \"x\"", "line\nbreak", "=1+1", ""].map(str::to_owned);
        let row =
            |text: &String| vec![Datum::Text(text.clone()), Datum::Real(0.1 + 0.2), Datum::Integer(i64::MAX)];
        let columns = vec!["a,\"b\"".to_owned(), "x".to_owned(), "n".to_owned()];
        let bytes = frame_csv(&Frame { columns: columns.clone(), rows: hostile.iter().map(row).collect() });
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), columns);
        for (record, text) in reader.records().zip(&hostile) {
            let record = record.unwrap();
            assert_eq!(
                (&record[0], record[1].parse(), record[2].parse()),
                (text.as_str(), Ok(0.1 + 0.2), Ok(i64::MAX))
            );
        }
    }
}
