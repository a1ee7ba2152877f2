// SPDX-License-Identifier: GPL-2.0

//! The report as a picture: a panel for each figure, a group of bars for each
//! backend and depth, a bar for each variant.

use std::fmt::{Result, Write};

use super::report::{Case, Figure, Report};
use super::variant::VARIANTS;

const PANELS: [(&str, Figure); 5] = [
    ("instructions of the guest's kernel per read", |s| s.kernel),
    ("of these above the floor", |s| s.own),
    ("in the driver and its bus", |s| s.driver),
    ("reads per second of the guest", |s| s.iops),
    (
        "latency of 99 % of the reads, microseconds of the guest",
        |s| s.p99,
    ),
];

/// One for each variant, in their order; can be told apart without colours too, by their labels.
const COLOURS: [&str; 5] = ["#b7410e", "#00599c", "#7f7f7f", "#b0b0b0", "#2e8b57"];

const BAR: f64 = 44.0;
const GAP: f64 = 36.0;
const MARGIN: f64 = 20.0;
/// Of the bars at most.
const HEIGHT: f64 = 140.0;
/// Of a panel, with its texts.
const PANEL: f64 = HEIGHT + 90.0;

/// An SVG picture.
pub(super) fn svg(report: &Report<'_>) -> String {
    let mut out = String::new();
    // a string takes whatever is written
    let _ = draw(&mut out, report);
    out
}

fn draw(out: &mut String, report: &Report<'_>) -> Result {
    let groups: Vec<&[Case<'_>]> = report
        .cases
        .chunk_by(|a, b| (a.backend, a.depth) == (b.backend, b.depth))
        .collect();
    let width = 2.0 * MARGIN
        + groups
            .iter()
            .map(|g| g.len() as f64 * BAR + GAP)
            .sum::<f64>();
    let height = PANEL * PANELS.len() as f64 + MARGIN;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">"#
    )?;
    writeln!(out, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    for (n, (title, figure)) in PANELS.iter().enumerate() {
        panel(out, &groups, PANEL * n as f64 + MARGIN, title, *figure)?;
    }
    writeln!(out, "</svg>")
}

fn panel(
    out: &mut String,
    groups: &[&[Case<'_>]],
    top: f64,
    title: &str,
    figure: Figure,
) -> Result {
    let cases = groups.iter().flat_map(|g| g.iter());
    let most = cases
        .map(|c| c.figure(figure).max)
        .fold(f64::MIN_POSITIVE, f64::max);
    let base = top + 40.0 + HEIGHT;
    writeln!(
        out,
        r#"<text x="{MARGIN}" y="{}" font-size="14">{title}</text>"#,
        top + 12.0
    )?;
    let mut left = MARGIN;
    for group in groups {
        for case in *group {
            bar(out, case, left, base, HEIGHT / most, figure)?;
            left += BAR;
        }
        if let Some(case) = group.first() {
            let middle = left - group.len() as f64 * BAR / 2.0;
            let name = format!("{}, depth {}", case.backend, case.depth);
            label(out, middle, base + 30.0, &name)?;
        }
        left += GAP;
    }
    Ok(())
}

/// From the base up to the median, with a line from the least to the greatest.
fn bar(
    out: &mut String,
    case: &Case<'_>,
    left: f64,
    base: f64,
    scale: f64,
    figure: Figure,
) -> Result {
    let value = case.figure(figure);
    let colour = VARIANTS
        .iter()
        .position(|v| v.name == case.variant)
        .map_or("black", |n| COLOURS[n]);
    let middle = left + BAR / 2.0;
    let y = |v: f64| base - v * scale;
    writeln!(
        out,
        r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{colour}"/>"#,
        left + 3.0,
        y(value.median),
        BAR - 6.0,
        value.median * scale,
    )?;
    writeln!(
        out,
        r#"<line x1="{middle:.1}" x2="{middle:.1}" y1="{:.1}" y2="{:.1}" stroke="black"/>"#,
        y(value.min),
        y(value.max),
    )?;
    label(
        out,
        middle,
        y(value.max) - 4.0,
        &format!("{:.0}", value.median),
    )?;
    label(out, middle, base + 14.0, case.variant)
}

fn label(out: &mut String, x: f64, y: f64, text: &str) -> Result {
    writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#
    )
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::bench::measure::Sample;
    use crate::bench::report::Report;

    #[test]
    fn each_variant_has_a_bar_in_each_panel() {
        let samples = [("rust", 10.0), ("c", 20.0), ("c", 22.0)].map(|(variant, value)| Sample {
            variant,
            backend: "null",
            depth: 1,
            reads: 1,
            instructions: 1,
            floor_instructions: 0,
            iops: value,
            p50: value,
            p99: value,
            kernel: value,
            floor: 0.0,
            own: value,
            user: value,
            driver: value,
            doorbells: value,
            interrupts: value,
            functions: Vec::new(),
        });
        let picture = svg(&Report::new(&samples, &[(1, 100), (32, 100)]));
        assert_eq!(picture.matches("<rect x=").count(), 2 * super::PANELS.len());
        assert!(picture.contains(">21</text>"));
    }
}
