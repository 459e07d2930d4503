//! Charts independent of the output format: lines or points over one horizontal axis.

mod parallel;
mod pgf;
mod svg;
mod ticks;

pub use parallel::{ParallelAxis, ParallelChart, ParallelLine, parallel_svg};
pub(super) use pgf::chart_pgf;
pub use svg::chart_svg_file;
pub(super) use svg::{CHART_STYLE, chart_svg};

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Its title.
    pub title: String,
    /// Label of the horizontal axis.
    pub x_label: String,
    /// Label of the vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic, as for ranks.
    pub doubling: bool,
    /// Its series.
    pub series: Vec<Series>,
    /// A reference level, and its name.
    pub level: Option<(String, f64)>,
}

/// A series of points.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Their name.
    pub name: String,
    /// The points, from left to right.
    pub points: Vec<Point>,
    /// Whether each point is marked; a curve of many points is a bare line.
    pub marked: bool,
}

/// A point; both numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its horizontal position.
    pub x: f64,
    /// Its value.
    pub y: f64,
    /// The error of its value.
    pub error: Option<f64>,
}

impl Chart {
    /// A description of the chart, for readers who cannot see it.
    pub fn words(&self) -> String {
        let of = |series: &Series| {
            let (first, last) = (series.points.first(), series.points.last());
            first.zip(last).map(|(first, last)| {
                format!(
                    "{}: {:.3} at {}, {:.3} at {}",
                    series.name,
                    first.y,
                    ticks::show(first.x),
                    last.y,
                    ticks::show(last.x)
                )
            })
        };
        let mut parts: Vec<String> = self.series.iter().filter_map(of).collect();
        parts.extend(self.level.as_ref().map(|(name, level)| format!("{name}: {level:.3}")));
        format!("{} by {}. {}.", self.y_label, self.x_label, parts.join("; "))
    }

    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }

    /// The smallest and the largest horizontal position.
    fn x_range(&self) -> (f64, f64) {
        range(self.points().map(|point| point.x))
    }

    /// The smallest and the largest value, including errors.
    fn y_range(&self) -> (f64, f64) {
        let ends = self.points().flat_map(|point| {
            let error = point.error.unwrap_or_default();
            [point.y - error, point.y + error]
        });
        range(ends.chain(self.level.iter().map(|(_, level)| *level)))
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}
