//! Charts as SVG. Colors are classes, so that a page's light and dark colors apply; series also differ in dash and mark.

use std::fmt::Write;

use super::{Chart, Series, ticks};
use crate::report::render::escape_html;

const WIDTH: f64 = 720.0;
/// Without the legend below.
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;
const RIGHT: f64 = 20.0;
/// Series with a distinct color and dash.
const COLOURS: usize = 8;
const DASHES: [&str; COLOURS] = ["", "7 3", "2 3", "9 3 2 3", "14 4", "1 4", "6 2 2 2 2 2", "12 3 4 3"];
/// Height of a legend line.
const LINE: f64 = 18.0;
/// Characters of a name that fit into half the width and into the full width.
const HALF: usize = 46;
const WHOLE: usize = 104;

/// Chart colors, light and dark: Okabe and Ito's, which are distinguishable with all kinds of color vision.
pub(in crate::report) const CHART_STYLE: &str = include_str!("chart.css");

/// A chart as an element of a page whose style includes [`CHART_STYLE`].
pub(in crate::report) fn chart_svg(chart: &Chart, id: &str) -> String {
    draw(chart, id, "")
}

/// A chart as a standalone file.
pub fn chart_svg_file(chart: &Chart) -> String {
    draw(chart, "chart", &format!("<style>{CHART_STYLE}</style>"))
}

/// Maps values to coordinates.
struct Plane {
    x: (f64, f64),
    y: (f64, f64),
    doubling: bool,
}

impl Plane {
    fn x(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.doubling { value.log2() } else { value };
        let (low, high) = (scaled(self.x.0), scaled(self.x.1));
        let part = if high > low { (scaled(value) - low) / (high - low) } else { 0.5 };
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value - self.y.0) / (self.y.1 - self.y.0);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw(chart: &Chart, id: &str, style: &str) -> String {
    let (low, high) = chart.x_range();
    let doubling = chart.doubling && low > 0.0;
    let x_marks = if doubling { ticks::multiplying(low, high) } else { ticks::covering(low, high) };
    let (y_low, y_high) = chart.y_range();
    let y_marks = ticks::covering(y_low, y_high);
    let ends = |marks: &[f64]| (marks[0], marks[marks.len() - 1]);
    let plane = Plane { x: ends(&x_marks), y: ends(&y_marks), doubling };
    let key = Key::of(chart);
    let height = HEIGHT + key.height();
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-words\">{style}<title id=\"{id}-title\">{}</title><desc id=\"{id}-words\">{}</desc>",
        escape_html(&chart.title),
        escape_html(&chart.words())
    );
    axes(&mut out, chart, &plane, &x_marks, &y_marks);
    if let Some((name, level)) = &chart.level {
        let y = plane.y(*level);
        let _ = write!(
            out,
            "<line class=\"level\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/><text class=\"small\" \
             x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT + 6.0,
            y - 5.0,
            escape_html(name)
        );
    }
    for (at, series) in chart.series.iter().enumerate() {
        draw_series(&mut out, series, at, &plane, &key);
    }
    out.push_str("</svg>");
    out
}

fn axes(out: &mut String, chart: &Chart, plane: &Plane, x_marks: &[f64], y_marks: &[f64]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for mark in y_marks {
        let y = plane.y(*mark);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/><text class=\"mark\" x=\"{:.1}\" \
             y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            ticks::show(*mark)
        );
    }
    for mark in x_marks {
        let x = plane.x(*mark);
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{:.1}\"/><text class=\"mark\" x=\"{x:.1}\" \
             y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 5.0,
            bottom + 19.0,
            ticks::show(*mark)
        );
    }
    let _ = write!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{right}\" y2=\"{bottom}\"/><text class=\"label\" x=\"{:.1}\" \
         y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"label\" transform=\"translate(14 {:.1}) rotate(-90)\" \
         text-anchor=\"middle\">{}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 10.0,
        escape_html(&chart.x_label),
        (TOP + bottom) / 2.0,
        escape_html(&chart.y_label)
    );
}

/// The layout of the legend: below the chart, in two columns if all names are short.
struct Key {
    columns: usize,
    lines: usize,
}

impl Key {
    fn of(chart: &Chart) -> Self {
        let short = chart.series.iter().all(|series| series.name.chars().count() <= HALF);
        let columns = if short { 2 } else { 1 };
        Self { columns, lines: chart.series.len().div_ceil(columns) }
    }

    fn height(&self) -> f64 {
        8.0 + LINE * self.lines as f64
    }

    /// The position of a name's line.
    fn place(&self, at: usize) -> (f64, f64) {
        let width = (WIDTH - LEFT) / self.columns as f64;
        (LEFT + width * (at % self.columns) as f64, HEIGHT + 8.0 + LINE * (at / self.columns) as f64)
    }
}

fn draw_series(out: &mut String, series: &Series, at: usize, plane: &Plane, key: &Key) {
    let (color, dash) = (at % COLOURS, DASHES[at % COLOURS]);
    let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|point| (plane.x(point.x), plane.y(point.y))).collect();
    let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = write!(out, "<g class=\"series s{color}\"><polyline points=\"{}\"{dash}/>", line.join(" "));
    for (point, (x, y)) in series.points.iter().zip(&places).filter(|_| series.marked) {
        if let Some(error) = point.error {
            let (top, bottom) = (plane.y(point.y + error), plane.y(point.y - error));
            let _ = write!(
                out,
                "<path class=\"error\" d=\"M{x:.1} {top:.1}V{bottom:.1}M{:.1} {top:.1}h8M{:.1} {bottom:.1}h8\"/>",
                x - 4.0,
                x - 4.0
            );
        }
        out.push_str(&mark(*x, *y, at));
    }
    let (x, y) = key.place(at);
    let _ = write!(out, "<polyline points=\"{x:.1},{y:.1} {:.1},{y:.1}\"{dash}/>", x + 30.0);
    if series.marked {
        out.push_str(&mark(x + 15.0, y, at));
    }
    let _ = write!(
        out,
        "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        x + 38.0,
        y + 4.0,
        escape_html(&shortened(&series.name))
    );
}

/// A circle, square, triangle or diamond.
fn mark(x: f64, y: f64, at: usize) -> String {
    match at % 4 {
        0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>"),
        1 => format!("<rect x=\"{:.1}\" y=\"{:.1}\" width=\"6.6\" height=\"6.6\"/>", x - 3.3, y - 3.3),
        2 => format!("<path d=\"M{x:.1} {:.1}l4 7h-8z\"/>", y - 4.2),
        _ => format!("<path d=\"M{x:.1} {:.1}l4.4 4.4l-4.4 4.4l-4.4 -4.4z\"/>", y - 4.4),
    }
}

/// A name, shortened to fit.
fn shortened(name: &str) -> String {
    if name.chars().count() <= WHOLE {
        name.to_owned()
    } else {
        name.chars().take(WHOLE - 1).chain(['…']).collect()
    }
}
