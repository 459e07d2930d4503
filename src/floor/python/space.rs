//! White space as `str.isspace` and the `\s` of `re` have it.

/// Whether a character is white space: Unicode's, and the four separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// How many pieces `re.split(r"\s+", text)` gives: one more than there are runs of white space, those at the edges too.
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
