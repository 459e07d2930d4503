//! Rows as one table, with one type per column, as `datasets` reads files for lm_eval.

use serde_json::{Number, Value as Json};

use super::rows::Row;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Bool,
    Integer,
    Float,
    Other,
}

/// Types the string columns of a CSV file by their fields: integers, numbers, `True` and `False`. Any other column
/// stays as written, so `N/A` and `None` are strings.
pub(super) fn infer_types(rows: &mut [Row]) {
    for (name, column) in columns(rows, |value| value.as_str().map_or(Column::Other, of_text)) {
        if column == Column::Other {
            continue;
        }
        let with_gaps = rows.iter().any(|row| row.get(&name).and_then(Json::as_str) == Some(""));
        for value in rows.iter_mut().filter_map(|row| row.get_mut(&name)) {
            let Some(text) = value.as_str().map(str::trim) else { continue };
            *value = match column {
                _ if text.is_empty() => Json::Null,
                Column::Bool => text.eq_ignore_ascii_case("true").into(),
                // A missing value is NaN in pandas, which turns integers into floats.
                Column::Integer if !with_gaps => text.parse::<i64>().map_or(Json::Null, Json::from),
                _ => text.parse::<f64>().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number),
            };
        }
    }
}

/// Gives every row each column, null if missing, and converts integers to floats in a column with floats.
pub(super) fn align(rows: &mut [Row]) {
    let of = |value: &Json| match value {
        Json::Number(number) if number.is_f64() => Column::Float,
        Json::Number(_) => Column::Integer,
        _ => Column::Other,
    };
    for (name, column) in columns(rows, of) {
        for row in rows.iter_mut() {
            let value = row.entry(name.as_str()).or_insert(Json::Null);
            if column == Column::Float
                && let Some(number) = value.as_f64()
            {
                *value = number.into();
            }
        }
    }
}

/// All columns in order of first appearance, each with the type that fits all its values except null and empty ones.
fn columns(rows: &[Row], of: impl Fn(&Json) -> Column) -> Vec<(String, Column)> {
    let mut columns: Vec<(String, Option<Column>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (name, value) in rows.iter().flatten() {
        let at = *places.entry(name.as_str()).or_insert_with(|| {
            columns.push((name.clone(), None));
            columns.len() - 1
        });
        if value.is_null() || value.as_str() == Some("") {
            continue;
        }
        let known = &mut columns[at].1;
        *known = Some(match (*known, of(value)) {
            (None, column) => column,
            (Some(known), column) if known == column => column,
            (Some(Column::Integer | Column::Float), Column::Integer | Column::Float) => Column::Float,
            _ => Column::Other,
        });
    }
    columns.into_iter().map(|(name, column)| (name, column.unwrap_or(Column::Other))).collect()
}

fn of_text(text: &str) -> Column {
    let text = text.trim();
    if ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        Column::Bool
    } else if text.parse::<i64>().is_ok() {
        Column::Integer
    } else if text.parse::<f64>().is_ok_and(f64::is_finite) {
        Column::Float
    } else {
        Column::Other
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(json: Json) -> Vec<Row> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_column_of_numbers_is_of_numbers_and_words_stay_words() {
        let mut table = rows(json!([
            { "i": "1", "f": "1", "b": "True", "gap": "1", "word": "N/A", "mixed": "1", "empty": "" },
            { "i": "-2", "f": "2.5", "b": "false", "gap": "", "word": "None", "mixed": "one", "empty": "" },
        ]));
        infer_types(&mut table);
        let expected = json!([
            { "i": 1, "f": 1.0, "b": true, "gap": 1.0, "word": "N/A", "mixed": "1", "empty": "" },
            { "i": -2, "f": 2.5, "b": false, "gap": null, "word": "None", "mixed": "one", "empty": "" },
        ]);
        assert_eq!(serde_json::to_value(table).unwrap(), expected);
    }

    #[test]
    fn every_row_has_every_column_and_one_float_makes_a_column_of_floats() {
        let mut table = rows(json!([{ "a": 1, "b": "x" }, { "a": 2.5 }, { "a": null, "c": [1] }]));
        align(&mut table);
        let expected = json!([
            { "a": 1.0, "b": "x", "c": null }, { "a": 2.5, "b": null, "c": null }, { "a": null, "b": null, "c": [1] },
        ]);
        assert_eq!(serde_json::to_value(table).unwrap(), expected);
    }
}
