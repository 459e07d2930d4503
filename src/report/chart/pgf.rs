//! Charts for LaTeX with pgfplots.

use std::fmt::Write;

use super::Chart;
use crate::report::render::escape_latex;

/// Series differ in more than color.
const LINES: [&str; 7] =
    ["solid", "dashed", "dotted", "dashdotted", "densely dashed", "densely dotted", "loosely dashed"];
const MARKS: [&str; 4] = ["*", "square*", "triangle*", "diamond*"];

/// A chart as a `tikzpicture`; needs `\usepackage{pgfplots}`.
pub(in crate::report) fn chart_pgf(chart: &Chart) -> String {
    let mut out =
        String::from("\\begin{tikzpicture}\n\\begin{axis}[width=\\linewidth, height=6.5cm, grid=major, ");
    let log = if chart.doubling && chart.x_range().0 > 0.0 {
        "xmode=log, log basis x=2, log ticks with fixed point, "
    } else {
        ""
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{log}xlabel={{{}}}, ylabel={{{}}}, legend style={{font=\\tiny, at={{(1.02,1)}}, anchor=north west}}, cycle list name=color list]",
        escape_latex(&chart.x_label),
        escape_latex(&chart.y_label)
    );
    for (at, series) in chart.series.iter().enumerate() {
        let (line, mark) = (LINES[at % LINES.len()], MARKS[at % MARKS.len()]);
        let marks = if series.marked {
            format!("{line}, mark={mark}, mark options={{solid}}, error bars/.cd, y dir=both, y explicit")
        } else {
            format!("{line}, mark=none")
        };
        let _ = write!(out, "\\addplot+[{marks}] coordinates {{");
        for point in &series.points {
            let _ = write!(out, "({}, {})", point.x, point.y);
            if let Some(error) = point.error.filter(|_| series.marked) {
                let _ = write!(out, " +- (0, {error})");
            }
            out.push(' ');
        }
        let _ = writeln!(out, "}};\n\\addlegendentry{{{}}}", escape_latex(&series.name));
    }
    if let Some((name, level)) = &chart.level {
        let (low, high) = chart.x_range();
        let _ = writeln!(
            out,
            "\\addplot[dashed, black!60] coordinates {{({low}, {level}) ({high}, {level})}};\n\\addlegendentry{{{}}}",
            escape_latex(name)
        );
    }
    out.push_str("\\end{axis}\n\\end{tikzpicture}\n");
    out
}
