//! Parts of pages, by the renderer of reports.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::report::{Block, Cell, Table, blocks_html, escape_html};

/// What has no place in a part of an address (RFC 3986, unreserved characters).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A part of a page that is pushed when it changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) id: &'static str,
    pub(super) html: String,
}

impl Part {
    pub(super) fn new(id: &'static str, html: String) -> Self {
        Self { id, html }
    }

    /// A heading with blocks.
    pub(super) fn of_blocks(id: &'static str, title: &str, blocks: &[Block]) -> Self {
        Self::new(id, format!("<h2>{}</h2>\n{}", escape_html(title), blocks_html(blocks, id)))
    }
}

/// The same table whose cells of a column lead somewhere; none: that one does not.
pub(super) fn linked(mut table: Table, column: &str, address: impl Fn(usize) -> Option<String>) -> Table {
    let Some(at) = table.columns.iter().position(|known| known.title == column) else { return table };
    for (number, row) in table.rows.iter_mut().enumerate() {
        if let Some(address) = address(number) {
            let cell = std::mem::replace(&mut row[at], Cell::Missing);
            row[at] = cell.linked(address);
        }
    }
    table
}

/// The address of a job.
pub(super) fn job_address(id: &str) -> String {
    format!("/jobs/{}", encoded(id))
}

/// The address of a sweep.
pub(super) fn sweep_address(name: &str) -> String {
    format!("/sweeps/{}", encoded(name))
}

/// A text within an address.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// Names with values.
pub(super) fn facts(pairs: &[(&str, String)]) -> String {
    let pair = |(name, value): &(&str, String)| {
        format!("<dt>{}</dt><dd>{}</dd>", escape_html(name), escape_html(value))
    };
    format!("<dl class=\"facts\">{}</dl>", pairs.iter().map(pair).collect::<String>())
}

/// A form with a button for each verb.
pub(super) fn controls(
    form_token: &str,
    name: &str,
    back: &str,
    verbs: &[(&str, &str, Option<String>)],
) -> String {
    let button = |(verb, text, ask): &(&str, &str, Option<String>)| {
        let ask = ask.as_ref().map(|ask| format!(" data-ask=\"{}\"", escape_html(ask))).unwrap_or_default();
        format!("<button name=\"verb\" value=\"{verb}\"{ask}>{text}</button>")
    };
    format!(
        "<form class=\"controls\" method=\"post\" action=\"/control\">{}<input type=\"hidden\" name=\"name\" value=\"{}\"><input \
         type=\"hidden\" name=\"back\" value=\"{}\">{}</form>",
        token_field(form_token),
        escape_html(name),
        escape_html(back),
        verbs.iter().map(button).collect::<String>()
    )
}

/// What a form sends back.
pub(super) fn token_field(form_token: &str) -> String {
    format!("<input type=\"hidden\" name=\"form_token\" value=\"{form_token}\">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_are_only_text() {
        let hostile = "a\"><script>x</script>/../?&#é";
        let form = controls("t", hostile, "/", &[("pause", "pause", Some(hostile.to_owned()))]);
        assert!(!form.contains("<script>") && !facts(&[("a", hostile.to_owned())]).contains("<script>"));
        assert_eq!(job_address("a/b c"), "/jobs/a%2Fb%20c");
        assert_eq!(sweep_address("é\""), "/sweeps/%C3%A9%22");
    }
}
