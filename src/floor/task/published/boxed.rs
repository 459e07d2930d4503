//! The answer in the last `\boxed{…}` of a solution.

/// Why a solution has no answer.
pub(super) const UNBOXED: &str = "'solution' has no complete \\boxed answer";

/// The last `\boxed{…}` or `\fbox{…}` up to its closing brace, or `\boxed x` up to a dollar sign.
pub(super) fn last_boxed(text: &str) -> Option<String> {
    if let Some((_, after)) = text.rsplit_once("\\boxed ") {
        return Some(format!("\\boxed {}", after.split('$').next().unwrap_or_default()));
    }
    last_braced(text).map(str::to_owned)
}

/// The last `\boxed{…}` or `\fbox{…}` up to its closing brace.
pub(super) fn last_braced(text: &str) -> Option<&str> {
    let from = &text[text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?..];
    let mut open = 0i64;
    for (at, byte) in from.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(&from[..=at]);
                }
            }
            _ => {}
        }
    }
    None
}

/// What a `\boxed` contains; none for `\fbox` and other text.
pub(super) fn unboxed(boxed: &str) -> Option<&str> {
    if boxed.contains("\\boxed ") {
        return boxed.strip_prefix("\\boxed ");
    }
    boxed.strip_prefix("\\boxed{")?.strip_suffix('}')
}

/// The answer of a solution.
pub(super) fn answer_of(solution: &str) -> Option<String> {
    last_boxed(solution).and_then(|boxed| unboxed(&boxed).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_balanced() {
        assert_eq!(answer_of("\\boxed{1} so $\\boxed{\\frac{1}{2}}$.").as_deref(), Some("\\frac{1}{2}"));
        assert_eq!(answer_of("\\boxed{1"), None);
    }

    #[test]
    fn a_box_without_braces_ends_at_a_dollar_sign() {
        assert_eq!(answer_of("is $\\boxed 5$ \\boxed{6}").as_deref(), Some("5"));
    }

    #[test]
    fn an_fbox_is_found_but_has_no_answer() {
        assert_eq!(last_boxed("\\fbox{3}").as_deref(), Some("\\fbox{3}"));
        assert_eq!(answer_of("\\fbox{3}"), None);
    }
}
