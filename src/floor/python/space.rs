//! Whitespace as in `str.isspace` and `\s` of `re`.

/// Whether a character is whitespace: Unicode's, and the four separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Number of pieces of `re.split(r"\s+", text)`: one more than the runs of whitespace, including those at the ends.
pub fn pieces(text: &str) -> usize {
    let mut runs = 0;
    let mut inside = false;
    for c in text.chars() {
        let space = is_space(c);
        runs += usize::from(space && !inside);
        inside = space;
    }
    runs + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_at_the_edges_are_counted() {
        assert_eq!((pieces(" a b\n"), pieces(""), pieces("a\u{1c}\u{3000}b")), (4, 1, 2));
    }
}
