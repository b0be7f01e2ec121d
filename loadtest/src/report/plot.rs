//! Line plots as SVG, with nothing but what is on the page: no script, no font, no picture from elsewhere.

use std::fmt::{Result as FmtResult, Write as _};

use super::html::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
/// How much of its right end an axis is wide at least, so that it is not nothing where all points share one x.
const NARROWEST: f64 = 1e-3;
/// More points than this cannot be told apart.
const MOST_POINTS: usize = 600;

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot, described.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    /// Where the marks of the x axis are, if not at even distances.
    pub(super) marks: Option<Vec<(f64, String)>>,
    pub(super) lines: Vec<Line>,
}

impl Plot<'_> {
    /// Nothing, if there is nothing to be seen.
    pub(super) fn render(&self, html: &mut String) -> FmtResult {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().count() < 2 {
            return Ok(());
        }
        let right = points().map(|point| point.0).fold(f64::MIN, f64::max);
        let left = points().map(|point| point.0).fold(f64::MAX, f64::min).min(right - NARROWEST * right.abs().max(1.0));
        let step = step(points().map(|point| point.1).fold(0.0, f64::max));
        let top = (points().map(|point| point.1).fold(0.0, f64::max) / step).ceil().max(1.0) * step;
        let x = |value: f64| LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        writeln!(html, "<figure><figcaption>{}</figcaption>", escape(self.title))?;
        writeln!(html, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(self.title))?;
        let mut level = 0.0;
        while level <= top + step / 2.0 {
            let (at, end) = (y(level), WIDTH - RIGHT);
            writeln!(html, r#"<path class="grid" d="M{LEFT} {at:.1}H{end}"/>"#)?;
            writeln!(html, r#"<text class="right" x="{}" y="{:.1}">{}</text>"#, LEFT - 6.0, at + 4.0, short(level))?;
            level += step;
        }
        for (value, label) in self.marks.clone().unwrap_or_else(|| even_marks(left, right)) {
            let (at, bottom) = (x(value), HEIGHT - BOTTOM);
            writeln!(html, r#"<path class="grid" d="M{at:.1} {bottom}v4"/>"#)?;
            writeln!(html, r#"<text class="middle" x="{at:.1}" y="{}">{}</text>"#, bottom + 16.0, escape(&label))?;
        }
        writeln!(html, r#"<text class="middle" x="{}" y="{}">{}</text>"#, WIDTH / 2.0, HEIGHT - 3.0, escape(self.x))?;
        let middle = HEIGHT / 2.0;
        writeln!(
            html,
            r#"<text class="middle" transform="translate(11 {middle})rotate(-90)">{}</text>"#,
            escape(self.y)
        )?;
        for (number, line) in self.lines.iter().enumerate() {
            let drawn: Vec<String> =
                thin(&line.points).map(|point| format!("{:.1} {:.1}", x(point.0), y(point.1))).collect();
            let (class, path) = (number % COLOURS, drawn.join("L"));
            writeln!(html, r#"<path class="line c{class}" d="M{path}"><title>{}</title></path>"#, escape(&line.name))?;
        }
        html.push_str("</svg>\n<ul class=\"legend\">");
        for (number, line) in self.lines.iter().enumerate() {
            write!(html, r#"<li class="c{}">{}</li>"#, number % COLOURS, escape(&line.name))?;
        }
        writeln!(html, "</ul></figure>")
    }
}

/// How many colours the style sheet has.
pub(super) const COLOURS: usize = 8;

/// Of many points, the highest of each stretch: peaks are what matters.
fn thin(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let stretch = points.len().div_ceil(MOST_POINTS).max(1);
    points.chunks(stretch).filter_map(|chunk| chunk.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1)))
}

/// 1, 2 or 5 times a power of ten, so that there are some five lines.
fn step(highest: f64) -> f64 {
    let rough = (highest / 5.0).max(1e-6);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(power)
}

fn even_marks(left: f64, right: f64) -> Vec<(f64, String)> {
    let step = step(right - left);
    let mut marks = Vec::new();
    let mut at = (left / step).ceil() * step;
    while at <= right {
        marks.push((at, short(at)));
        at += step;
    }
    marks
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", trim(value / 1e6)),
        value if value >= 1e4 => format!("{}k", trim(value / 1e3)),
        value => trim(value),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([0.9, 7.0, 42.0, 100.0, 730.0].map(step).map(trim), ["0.2", "2", "10", "20", "200"]);
    }

    #[test]
    fn peaks_survive_thinning() {
        let points: Vec<(f64, f64)> =
            (0..6_000).map(|at| (f64::from(at), if at == 4_321 { 99.0 } else { 1.0 })).collect();
        let thinned: Vec<(f64, f64)> = thin(&points).collect();
        assert!(thinned.len() <= MOST_POINTS && thinned.contains(&(4_321.0, 99.0)));
    }

    #[test]
    fn a_plot_of_one_moment_has_a_width() {
        for at in [0.0, 2.0, 7.0, 86_400.0] {
            let lines = ["max", "p99", "p50"].map(|name| Line { name: name.to_owned(), points: vec![(at, 1.0)] });
            let mut html = String::new();
            Plot { title: "t", x: "x", y: "y", marks: None, lines: lines.into() }.render(&mut html).unwrap();
            assert!(html.contains("<svg") && !html.contains("NaN") && !html.contains("inf"), "at {at}: {html}");
        }
    }

    #[test]
    fn a_plot_of_one_point_is_none() {
        let lines = vec![Line { name: "p50".to_owned(), points: vec![(1.0, 1.0)] }];
        let mut html = String::new();
        Plot { title: "t", x: "x", y: "y", marks: None, lines }.render(&mut html).unwrap();
        assert!(html.is_empty());
    }
}
