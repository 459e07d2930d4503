//! A table, independent of the output format.

use serde_json::{Value as Json, json};

/// The alignment of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Strings.
    Left,
    /// Numbers.
    Right,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub title: String,
    /// Its unit, shown after the heading.
    pub unit: Option<&'static str>,
    /// Its alignment.
    pub align: Align,
    /// If not all columns fit, those with the lowest weight are dropped first; `u8::MAX` is never dropped.
    pub weight: u8,
}

/// A value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A string.
    Text(String),
    /// An integer.
    Count(u64),
    /// A number with this many decimals.
    Number(f64, usize),
    /// A number with its uncertainty, both with this many decimals.
    Uncertain(f64, f64, usize),
    /// A difference: a signed number with this many decimals.
    Signed(f64, usize),
    /// A highlighted value.
    Marked(Box<Cell>, Mark),
    /// A value of a heat map, with its shade: from 0, the worst, to the number of shades less one.
    Shaded(Box<Cell>, u8),
    /// A value that leads to a page.
    Linked(Box<Cell>, String),
    /// No value.
    Missing,
}

/// Shades of a heat map.
pub(in crate::report) const SHADES: u8 = 8;

/// Why a value is highlighted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is the best.
    Best,
    /// It is statistically tied with the best.
    Tied,
}

impl Mark {
    /// The sign after a value.
    pub fn sign(self) -> char {
        match self {
            Self::Best => '*',
            Self::Tied => '≈',
        }
    }
}

impl Table {
    /// The same with every heading and string escaped by `spell`.
    pub fn spelled(&self, spell: impl Fn(&str) -> String) -> Self {
        let column = |column: &Column| Column { title: spell(&column.title), ..column.clone() };
        let row = |cells: &Vec<Cell>| cells.iter().map(|cell| Cell::Text(spell(&cell.show()))).collect();
        Self { columns: self.columns.iter().map(column).collect(), rows: self.rows.iter().map(row).collect() }
    }
}

/// Columns and rows; each row is as long as the list of columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Vec<Cell>>,
}

impl Column {
    /// A column of strings.
    pub fn text(title: impl Into<String>) -> Self {
        Self { title: title.into(), unit: None, align: Align::Left, weight: u8::MAX }
    }

    /// A column of numbers.
    pub fn number(title: impl Into<String>, unit: Option<&'static str>) -> Self {
        Self { title: title.into(), unit, align: Align::Right, weight: u8::MAX }
    }

    /// The same column with this weight: lighter columns are dropped first.
    pub fn weighing(self, weight: u8) -> Self {
        Self { weight, ..self }
    }

    /// Its heading with its unit.
    pub fn heading(&self) -> String {
        match self.unit {
            Some(unit) => format!("{} [{unit}]", self.title),
            None => self.title.clone(),
        }
    }
}

impl Cell {
    /// A number, or no value.
    pub fn maybe_number(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Missing, |value| Self::Number(value, decimals))
    }

    /// A difference, or no value.
    pub fn maybe_signed(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Self::Missing, |value| Self::Signed(value, decimals))
    }

    /// The same as a link.
    pub fn linked(self, address: String) -> Self {
        Self::Linked(Box::new(self), address)
    }

    /// The same with a mark.
    pub fn marked(self, mark: Mark) -> Self {
        Self::Marked(Box::new(self), mark)
    }

    /// As shown to people.
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(n) => group_digits(*n),
            Self::Number(value, decimals) => show_number(*value, *decimals),
            Self::Uncertain(value, error, decimals) => {
                format!("{} ± {}", show_number(*value, *decimals), show_number(*error, *decimals))
            }
            Self::Signed(value, decimals) => {
                let shown = show_number(*value, *decimals);
                let zero = shown.chars().all(|c| matches!(c, '0' | '.'));
                if *value > 0.0 && !zero { format!("+{shown}") } else { shown }
            }
            Self::Marked(inner, mark) => format!("{} {}", inner.show(), mark.sign()),
            Self::Shaded(inner, _) | Self::Linked(inner, _) => inner.show(),
            Self::Missing => "–".to_owned(),
        }
    }

    /// As read by programs.
    pub fn json(&self) -> Json {
        match self {
            Self::Text(text) => json!(text),
            Self::Count(n) => json!(n),
            Self::Number(value, _) | Self::Uncertain(value, _, _) | Self::Signed(value, _) => json!(value),
            Self::Marked(inner, _) | Self::Shaded(inner, _) | Self::Linked(inner, _) => inner.json(),
            Self::Missing => Json::Null,
        }
    }
}

/// Numbers from here on are shown with an exponent: the perplexity of a model that learned nothing has forty digits.
const LARGE: f64 = 1e7;

/// A number with fixed decimals; never "-0.000".
fn show_number(value: f64, decimals: usize) -> String {
    if value.is_finite() && value.abs() >= LARGE {
        return format!("{value:.decimals$e}");
    }
    let shown = format!("{value:.decimals$}");
    let zero = shown.strip_prefix('-').filter(|rest| rest.chars().all(|c| c == '0' || c == '.'));
    zero.map_or(shown.clone(), str::to_owned)
}

/// 134515008 → 134,515,008
fn group_digits(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_without_a_negative_zero_and_with_groups() {
        assert_eq!(Cell::Number(-0.0001, 3).show(), "0.000");
        assert_eq!(Cell::Number(-0.5, 1).show(), "-0.5");
        assert_eq!(Cell::Number(1.234_56e40, 3).show(), "1.235e40");
        assert_eq!(Cell::Uncertain(9_999_999.0, 1e9, 0).show(), "9999999 ± 1e9");
        assert_eq!(
            [0.0125, -0.5, 0.0001, -0.0001].map(|value| Cell::Signed(value, 2).show()),
            ["+0.01", "-0.50", "0.00", "0.00"]
        );
        assert_eq!(Cell::Number(f64::NAN, 3).marked(Mark::Tied).show(), "NaN ≈");
        assert_eq!(Cell::Count(134_515_008).show(), "134,515,008");
        assert_eq!(Cell::Uncertain(0.345, 0.0337, 3).show(), "0.345 ± 0.034");
    }
}
