// SPDX-License-Identifier: GPL-2.0

//! A report as a picture: a panel for each figure, a group of bars for each
//! place, a bar for each variant.

use std::fmt::{Result, Write};

use super::cases::Spread;

/// A figure, everywhere.
pub(super) struct Panel {
    /// What it is.
    pub(super) title: &'static str,
    /// One for each place.
    pub(super) groups: Vec<Group>,
}

/// A figure of all that are compared in one place.
pub(super) struct Group {
    /// The place.
    pub(super) name: String,
    /// The figures.
    pub(super) bars: Vec<Bar>,
}

/// A figure of one.
pub(super) struct Bar {
    /// Whose.
    pub(super) variant: &'static str,
    /// What number its variant has; for colours.
    pub(super) number: usize,
    /// The figure.
    pub(super) value: Spread,
}

/// One for each variant, in their order; can be told apart without colours too, by their labels.
const COLOURS: [&str; 6] = [
    "#b7410e", "#00599c", "#d9a441", "#7f7f7f", "#b0b0b0", "#2e8b57",
];

const BAR: f64 = 44.0;
const GAP: f64 = 36.0;
const MARGIN: f64 = 20.0;
/// Of the bars at most.
const HEIGHT: f64 = 140.0;
/// Of a panel, with its texts.
const PANEL: f64 = HEIGHT + 90.0;

/// An SVG picture.
pub(super) fn svg(panels: &[Panel]) -> String {
    let mut out = String::new();
    // a string takes whatever is written
    let _ = draw(&mut out, panels);
    out
}

fn draw(out: &mut String, panels: &[Panel]) -> Result {
    let width_of = |p: &Panel| {
        let groups = p.groups.iter();
        groups.map(|g| g.bars.len() as f64 * BAR + GAP).sum::<f64>()
    };
    let width = 2.0 * MARGIN + panels.iter().map(width_of).fold(0.0, f64::max);
    let height = PANEL * panels.len() as f64 + MARGIN;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">"#
    )?;
    writeln!(out, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    for (n, panel) in panels.iter().enumerate() {
        draw_panel(out, panel, PANEL * n as f64 + MARGIN)?;
    }
    writeln!(out, "</svg>")
}

fn draw_panel(out: &mut String, panel: &Panel, top: f64) -> Result {
    let bars = panel.groups.iter().flat_map(|g| g.bars.iter());
    let most = bars.map(|b| b.value.max).fold(f64::MIN_POSITIVE, f64::max);
    let base = top + 40.0 + HEIGHT;
    writeln!(
        out,
        r#"<text x="{MARGIN}" y="{}" font-size="14">{}</text>"#,
        top + 12.0,
        panel.title
    )?;
    let mut left = MARGIN;
    for group in &panel.groups {
        for bar in &group.bars {
            draw_bar(out, bar, left, base, HEIGHT / most)?;
            left += BAR;
        }
        let middle = left - group.bars.len() as f64 * BAR / 2.0;
        label(out, middle, base + 30.0, &group.name)?;
        left += GAP;
    }
    Ok(())
}

/// From the base up to the median, with a line from the least to the greatest.
fn draw_bar(out: &mut String, bar: &Bar, left: f64, base: f64, scale: f64) -> Result {
    let value = bar.value;
    let colour = COLOURS.get(bar.number).unwrap_or(&"black");
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
    label(out, middle, base + 14.0, bar.variant)
}

fn label(out: &mut String, x: f64, y: f64, text: &str) -> Result {
    writeln!(
        out,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#
    )
}
