//! The query of an address: what a page shows.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::parts::encoded;
use crate::workspace::BoardRequest;

/// Rows of a leaderboard where nothing else is asked for, and at most.
const ROWS: usize = 100;
const MOST_ROWS: usize = 1000;

/// Names with values, as an address has them; of a name that is there several times all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.0.entry(decoded(name)).or_default().push(decoded(value));
        }
        query
    }

    /// The first value; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|value| !value.trim().is_empty())
    }

    /// All values.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str).filter(|value| !value.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        let parts = self.all(name).flat_map(|value| value.split(','));
        parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    }

    /// The leaderboard that is asked for.
    pub(super) fn board(&self, sweep: &str) -> BoardRequest {
        let rows = self.get("rows").and_then(|rows| rows.parse().ok()).unwrap_or(ROWS);
        BoardRequest {
            sweeps: vec![sweep.to_owned()],
            sort: self.get("sort").map(str::to_owned),
            metrics: self.list("metrics"),
            columns: self.list("columns"),
            condition: self.get("where").map(str::to_owned),
            group_by: self.list("group_by"),
            rows: Some(rows.clamp(1, MOST_ROWS)),
        }
    }

    /// The same in one spelling, for an address.
    pub(super) fn text(&self) -> String {
        let pairs = self.0.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let pairs = pairs.filter(|(_, value)| !value.is_empty());
        pairs
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// The same with one value changed.
    pub(super) fn with(&self, name: &str, value: &str) -> Self {
        let mut query = self.clone();
        query.0.insert(name.to_owned(), vec![value.to_owned()]);
        query
    }
}

/// A text of an address or form: `%41` is A and + a space; anything else is kept.
fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_reads_back_in_one_spelling() {
        let query = Query::parse("where=lora.rank+%3E%3D+8&runs=a&runs=b&sort=&x=%zz%4&rows=9999999");
        assert_eq!(query.get("where"), Some("lora.rank >= 8"));
        assert_eq!(query.all("runs").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((query.get("sort"), query.get("x")), (None, Some("%zz%4")));
        assert_eq!(query.board("s").rows, Some(MOST_ROWS));
        assert_eq!(Query::parse(&query.text()).text(), query.text());
        assert_eq!(
            query.with("runs", "c").text(),
            "rows=9999999&runs=c&where=lora.rank%20%3E%3D%208&x=%25zz%254"
        );
    }
}
