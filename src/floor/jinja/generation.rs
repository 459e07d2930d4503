//! `{% generation %}` … `{% endgeneration %}`: the model's output. transformers marks these tokens for the loss.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Delimits the rendering of a generation block; Unicode noncharacters, which do not occur in text.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';

/// The filter that renders a generation block.
pub(super) const FILTER: &str = "loragrid_generation";

/// A rendered string and its generated spans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The string.
    pub text: String,
    /// Byte ranges of generation blocks, in order.
    pub spans: Vec<Range<usize>>,
}

/// The template with generation tags replaced by tags that the library supports, with the same whitespace rules; and
/// whether it has any.
pub fn without_generation_tags(source: &str) -> (String, bool) {
    // Valid: both are constant.
    #[allow(clippy::unwrap_used)]
    // The pattern is a constant that the tests compile: it cannot fail.
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(generation|endgeneration)\s*([-+]?)%\}").unwrap());
    let replaced = TAG.replace_all(source, |found: &regex::Captures<'_>| {
        let word =
            if &found[2] == "generation" { format!("filter {FILTER}") } else { "endfilter".to_owned() };
        format!("{{%{} {word} {}%}}", &found[1], &found[3])
    });
    let has_tags = TAG.is_match(source);
    (replaced.into_owned(), has_tags)
}

/// The filter.
pub(super) fn mark(text: String) -> String {
    format!("{OPEN}{text}{CLOSE}")
}

impl Generated {
    /// Removes the marks from a rendered string.
    pub fn of(marked: &str) -> Self {
        let mut text = String::with_capacity(marked.len());
        let (mut spans, mut starts) = (Vec::new(), Vec::new());
        for c in marked.chars() {
            match c {
                OPEN => starts.push(text.len()),
                CLOSE => spans.extend(starts.pop().map(|start| start..text.len())),
                c => text.push(c),
            }
        }
        spans.sort_by_key(|span: &Range<usize>| span.start);
        Self { text, spans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_keep_their_white_space_control_and_marks_become_spans() {
        let (source, has_tags) = without_generation_tags("{%- generation -%} a {% endgeneration %}");
        assert_eq!(source, format!("{{%- filter {FILTER} -%}} a {{% endfilter %}}"));
        assert!(has_tags && !without_generation_tags("{{ generation }}").1);
        let generated = Generated::of(&format!("é{}b{}", mark("ab".into()), mark(String::new())));
        assert_eq!((generated.text.as_str(), generated.spans), ("éabb", vec![2..4, 5..5]));
    }
}
