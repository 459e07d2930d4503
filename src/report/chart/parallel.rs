//! Parallel coordinates: a vertical axis for each key and score, and a line for each run.

use std::fmt::Write;

use super::ticks;
use crate::report::render::escape_html;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 24.0;
/// Most marks of an axis.
const MARKS: usize = 8;

/// An axis with its values from bottom to top.
#[derive(Debug, Clone, PartialEq)]
pub enum ParallelAxis {
    /// Numbers between two ends.
    Numbers {
        /// Its name.
        name: String,
        /// The least and the largest.
        ends: (f64, f64),
        /// Whether factors are as long everywhere.
        doubling: bool,
    },
    /// Texts, as far from each other.
    Texts {
        /// Its name.
        name: String,
        /// The texts.
        values: Vec<String>,
    },
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct ParallelLine {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub address: String,
    /// Its place on each axis: the number, or that of the text; none where it has no value.
    pub values: Vec<Option<f64>>,
    /// From 0, the worst, to 1, the best.
    pub rank: f64,
}

/// Runs over their axes.
#[derive(Debug, Clone, PartialEq)]
pub struct ParallelChart {
    /// Its title.
    pub title: String,
    /// The axes from left to right.
    pub axes: Vec<ParallelAxis>,
    /// The runs, the best first.
    pub lines: Vec<ParallelLine>,
}

impl ParallelAxis {
    fn name(&self) -> &str {
        match self {
            Self::Numbers { name, .. } | Self::Texts { name, .. } => name,
        }
    }

    /// From 0, at the bottom, to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self {
            Self::Numbers { ends: (low, high), doubling, .. } => {
                let scaled = |value: f64| if *doubling { value.log2() } else { value };
                (scaled(value) - scaled(*low)) / (scaled(*high) - scaled(*low))
            }
            Self::Texts { values, .. } => value / (values.len().max(2) - 1) as f64,
        };
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.5 }
    }

    fn marks(&self) -> Vec<(f64, String)> {
        match self {
            Self::Numbers { ends: (low, high), doubling, .. } => {
                let all =
                    if *doubling { ticks::multiplying(*low, *high) } else { ticks::covering(*low, *high) };
                let within = all.into_iter().filter(|mark| (*low..=*high).contains(mark));
                let mut marks: Vec<f64> = within.chain([*low, *high]).collect();
                marks.sort_by(f64::total_cmp);
                // The ends are said exactly; what is too near to another mark is not.
                marks.dedup_by(|a, b| (self.part(*a) - self.part(*b)).abs() < 0.04);
                marks.into_iter().map(|mark| (self.part(mark), ticks::show(mark))).collect()
            }
            Self::Texts { values, .. } => {
                let step = values.len().div_ceil(MARKS).max(1);
                let shown = values.iter().enumerate().step_by(step);
                shown.map(|(at, text)| (self.part(at as f64), text.clone())).collect()
            }
        }
    }
}

/// The chart as an element of a page with the charts' style.
pub fn parallel_svg(chart: &ParallelChart, id: &str) -> String {
    let words = format!(
        "{} runs over {}.",
        chart.lines.len(),
        chart.axes.iter().map(ParallelAxis::name).collect::<Vec<_>>().join(", ")
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart parallel\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-words\"><title id=\"{id}-title\">{}</title><desc id=\"{id}-words\">{}</desc>",
        escape_html(&chart.title),
        escape_html(&words)
    );
    let gap = (WIDTH - LEFT - RIGHT) / (chart.axes.len().max(2) - 1) as f64;
    let x = |at: usize| LEFT + gap * at as f64;
    let y = |part: f64| HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
    // The best are drawn last, on top.
    for line in chart.lines.iter().rev() {
        let places = chart.axes.iter().zip(&line.values).enumerate();
        let places = places
            .filter_map(|(at, (axis, value))| Some(format!("{:.1},{:.1}", x(at), y(axis.part((*value)?)))));
        let shade = (line.rank.clamp(0.0, 1.0) * 7.0).round() as u8;
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "<a href=\"{}\"><polyline class=\"run r{shade}\" points=\"{}\"><title>{}</title></polyline></a>",
            escape_html(&line.address),
            places.collect::<Vec<_>>().join(" "),
            escape_html(&line.name)
        );
    }
    for (at, axis) in chart.axes.iter().enumerate() {
        let (across, top, bottom) = (x(at), y(1.0), y(0.0));
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{across:.1}\" y1=\"{top:.1}\" x2=\"{across:.1}\" y2=\"{bottom:.1}\"/><text class=\"label\" \
             x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            if at % 2 == 0 { TOP - 12.0 } else { TOP - 28.0 },
            escape_html(axis.name())
        );
        for (part, text) in axis.marks() {
            let _ = write!(
                out,
                "<text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                across - 6.0,
                y(part) + 4.0,
                escape_html(&text.chars().take(12).collect::<String>())
            );
        }
    }
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_line_with_a_link_and_names_are_escaped() {
        let axes = vec![
            ParallelAxis::Numbers { name: "r".to_owned(), ends: (4.0, 64.0), doubling: true },
            ParallelAxis::Texts {
                name: "<o>".to_owned(),
                values: vec!["adamw".to_owned(), "sgd".to_owned()],
            },
        ];
        let line = |rank, values| ParallelLine {
            name: "a & b".to_owned(),
            address: "/jobs/1".to_owned(),
            values,
            rank,
        };
        let lines = vec![line(1.0, vec![Some(16.0), Some(1.0)]), line(0.0, vec![Some(4.0), None])];
        let svg = parallel_svg(&ParallelChart { title: "t".to_owned(), axes, lines }, "p");
        assert!(svg.contains("&lt;o&gt;") && svg.contains("a &amp; b") && !svg.contains("<o>"));
        // In the middle between 4 and 64 by factors, and at the top of the texts; the worse one first.
        let middle = f64::midpoint(HEIGHT - BOTTOM, TOP);
        let (best, worst) = (svg.find("r7").unwrap(), svg.find("r0").unwrap());
        assert!(
            worst < best
                && svg.contains(&format!("points=\"{LEFT:.1},{middle:.1} {:.1},{TOP:.1}\"", WIDTH - RIGHT))
        );
    }

    #[test]
    fn an_axis_of_one_value_and_of_none_is_drawn() {
        let one = ParallelAxis::Numbers { name: "r".to_owned(), ends: (8.0, 8.0), doubling: true };
        assert_eq!(one.part(8.0), 0.5);
        let none = ParallelAxis::Texts { name: "o".to_owned(), values: Vec::new() };
        let svg = parallel_svg(
            &ParallelChart { title: String::new(), axes: vec![one, none], lines: Vec::new() },
            "p",
        );
        assert!(svg.ends_with("</svg>") && !svg.contains("NaN"));
    }
}
