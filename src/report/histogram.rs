//! Row lengths: summary numbers, a histogram for the terminal, and one as SVG.

use std::fmt::Write;

use serde::Serialize;

/// Bars of a histogram.
const BARS: usize = 20;
/// Longest bar of the terminal's histogram, in characters.
const WIDTH: usize = 40;

/// Summary of a list of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthStats {
    /// Number of rows.
    pub rows: usize,
    /// Their sum.
    pub tokens: u64,
    /// Shortest.
    pub min: usize,
    /// Half are at most this long.
    pub median: usize,
    /// Mean.
    pub mean: f64,
    /// 95 of 100 are at most this long.
    pub p95: usize,
    /// Longest.
    pub max: usize,
    /// Width of a bar in tokens.
    pub bar: usize,
    /// Rows per bar: the first counts lengths below `bar`; the last counts all longer ones.
    pub counts: Vec<usize>,
}

impl LengthStats {
    /// Computed from at least one length.
    pub fn of(lengths: &[usize]) -> Self {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let at =
            |part: f64| sorted[((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len()) - 1];
        let tokens: u64 = sorted.iter().map(|&length| length as u64).sum();
        // The 98th percentile fills the bars, so that a few long rows do not squeeze the rest into one.
        let bar = (at(0.98) + 1).div_ceil(BARS).max(1);
        let mut counts = vec![0; BARS];
        for length in &sorted {
            counts[(length / bar).min(BARS - 1)] += 1;
        }
        Self {
            rows: sorted.len(),
            tokens,
            min: at(0.0),
            median: at(0.5),
            mean: tokens as f64 / sorted.len() as f64,
            p95: at(0.95),
            max: at(1.0),
            bar,
            counts,
        }
    }

    /// The range of a bar, as a string.
    fn range(&self, bar: usize) -> String {
        match bar + 1 == self.counts.len() {
            true => format!("{}+", bar * self.bar),
            false => format!("{}–{}", bar * self.bar, (bar + 1) * self.bar - 1),
        }
    }

    /// For a terminal.
    pub fn render(&self) -> String {
        let most = self.counts.iter().copied().max().unwrap_or(1).max(1);
        let mut out = String::new();
        for (bar, count) in self.counts.iter().enumerate() {
            let length = (count * WIDTH).div_ceil(most);
            let _ = writeln!(out, "{:>12} {:<WIDTH$} {count}", self.range(bar), "█".repeat(length));
        }
        out.pop();
        out
    }

    /// As an SVG image with a title, axis labels and the median as a line.
    pub fn svg(&self, title: &str) -> String {
        let most = self.counts.iter().copied().max().unwrap_or(1).max(1) as f64;
        let (left, top, wide, high) = (64.0, 48.0, 640.0, 260.0);
        let step = wide / self.counts.len() as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 380\" role=\"img\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<title>{title}: median {} tokens</title>\n<rect width=\"760\" height=\"380\" \
             fill=\"white\"/>\n<text x=\"{left}\" y=\"24\" font-size=\"16\">{title}</text>\n",
            self.median,
            title = escape(title),
        );
        for (bar, count) in self.counts.iter().enumerate() {
            let height = *count as f64 / most * high;
            let (x, y) = (left + bar as f64 * step, top + high - height);
            let _ = writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#0072b2\">\
                 <title>{} tokens: {count} rows</title></rect>",
                step - 2.0,
                self.range(bar),
            );
            if bar % 4 == 0 {
                let _ = writeln!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                    top + high + 18.0,
                    bar * self.bar
                );
            }
        }
        for part in [0.0, 0.5, 1.0] {
            let (y, rows) = (top + high * (1.0 - part), (most * part).round());
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{rows}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        let x = left + self.median as f64 / self.bar as f64 * step;
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{:.1}\" stroke=\"#d55e00\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#b04a00\">median {}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">tokens of a row ({} rows)</text>\n</svg>",
            top + high,
            x + 6.0,
            top + 12.0,
            self.median,
            left + wide / 2.0,
            top + high + 44.0,
            self.rows,
        );
        out
    }
}

/// Escapes a string for XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_bars_are_those_of_the_lengths() {
        let lengths: Vec<usize> = (1..=100).collect();
        let stats = LengthStats::of(&lengths);
        assert_eq!((stats.min, stats.median, stats.p95, stats.max), (1, 50, 95, 100));
        assert_eq!(stats.counts.iter().sum::<usize>(), 100);
        assert_eq!(stats.bar, 5);
        assert_eq!(stats.counts[..2], [4, 5]);
    }

    #[test]
    fn one_row_is_a_histogram_too() {
        let stats = LengthStats::of(&[7]);
        assert_eq!((stats.median, stats.counts.iter().sum::<usize>()), (7, 1));
        assert!(stats.svg("<rows>").contains("&lt;rows&gt;"));
    }
}
