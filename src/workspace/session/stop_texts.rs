//! An answer that ends at any of some texts, which are not part of it.

/// Finds stop texts in parts of an answer. What may be the beginning of one is held back.
#[derive(Debug, Clone, Default)]
pub(super) struct StopTexts {
    texts: Vec<String>,
    held: String,
}

impl StopTexts {
    /// Empty texts stop nothing.
    pub(super) fn new(texts: &[String]) -> Self {
        let texts = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
        Self { texts, held: String::new() }
    }

    /// The next part of an answer: what can be shown, and whether the answer ends with it.
    pub(super) fn push(&mut self, part: &str) -> (String, bool) {
        self.held.push_str(part);
        let first = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let held = self.texts.iter().map(|text| overlap(&self.held, text)).max().unwrap_or_default();
        let rest = self.held.split_off(self.held.len() - held);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is held back when the answer has ended.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `shown` that a stop text begins with.
fn overlap(shown: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).rev();
    lengths.into_iter().find(|&length| shown.ends_with(&stop[..length])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(stops: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut texts = StopTexts::new(&stops);
        let mut shown = Vec::new();
        for part in parts {
            let (text, ends) = texts.push(part);
            shown.push(text);
            if ends {
                return (shown, true);
            }
        }
        shown.push(texts.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_text_across_parts_ends_the_answer_before_it() {
        assert_eq!(parts(&["\nQ:"], &["a\n", "Q", ": b"]), (vec!["a".into(), "".into(), "".into()], true));
        assert_eq!(parts(&["END", "."], &["a. END"]), (vec!["a".into()], true), "the first in the text");
    }

    #[test]
    fn what_may_become_one_is_held_back_and_shown_when_it_does_not() {
        let shown = vec!["a".into(), "".into(), "\nQuit".into(), "".into()];
        assert_eq!(parts(&["\nQ:"], &["a\n", "Q", "uit"]), (shown, false));
        assert_eq!(parts(&["é!"], &["caf", "é"]), (vec!["caf".into(), "".into(), "é".into()], false));
        assert_eq!(parts(&[""], &["a"]), (vec!["a".into(), "".into()], false));
    }
}
