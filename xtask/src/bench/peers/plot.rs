//! The plot: what each program takes from a storm of short lives.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::storming::{Storming, Subject};

const SIZE: (u32, u32) = (900, 560);
const OURS: RGBColor = RGBColor(32, 96, 176);
const THEIRS: RGBColor = RGBColor(150, 150, 150);
/// CPU times below this are drawn here, µs: the axis is logarithmic.
const LEAST: f64 = 0.01;

/// The picture as text.
///
/// # Errors
/// When it cannot be drawn.
pub(super) fn svg(rows: &[Storming]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, rows).map_err(|error| anyhow!("draw the plot: {error}"))?;
    Ok(text)
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// One bar: a value beside a name.
struct Bar<'a> {
    name: &'a str,
    value: f64,
    colour: RGBColor,
}

fn draw(text: &mut String, rows: &[Storming]) -> Drawn {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    let bars = |value: &dyn Fn(&Storming) -> f64| -> Vec<Bar<'_>> {
        let bar = |row| Bar { name: short(row), value: value(row), colour: colour(row.subject) };
        rows.iter().map(bar).collect()
    };
    let ratios = bars(&|row| row.ratio.median());
    let most = ratios.iter().map(|bar| bar.value).fold(1.0, f64::max) * 1.05;
    chart(&upper, "Throughput of the storm, relative to without (more is better)", 0.0..most, &ratios)?;
    let micros = bars(&|row| row.micros.median().max(LEAST));
    let most = micros.iter().map(|bar| bar.value).fold(1.0, f64::max) * 2.0;
    chart(
        &lower,
        "CPU time of the program per life, µs, logarithmic (less is better)",
        (LEAST..most).log_scale(),
        &micros,
    )?;
    area.present()?;
    Ok(())
}

fn chart<X>(area: &DrawingArea<SVGBackend<'_>, Shift>, caption: &str, values: X, bars: &[Bar<'_>]) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let count = i32::try_from(bars.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(26)
        .y_label_area_size(230)
        .build_cartesian_2d(values, (0..count).into_segmented())?;
    let name = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(row) | SegmentValue::Exact(row) => usize::try_from(count - 1 - row)
            .ok()
            .and_then(|row| bars.get(row))
            .map_or_else(String::new, |bar| bar.name.to_owned()),
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .draw()?;
    let least = chart.x_range().start;
    chart.draw_series(bars.iter().enumerate().filter_map(|(index, bar)| {
        let row = count - 1 - i32::try_from(index).ok()?;
        let corners = [(least, SegmentValue::Exact(row)), (bar.value, SegmentValue::Exact(row + 1))];
        let mut shape = Rectangle::new(corners, bar.colour.filled());
        shape.set_margin(3, 3, 0, 0);
        Some(shape)
    }))?;
    Ok(())
}

const fn colour(subject: Subject) -> RGBColor {
    match subject {
        Subject::Agent | Subject::Exporting => OURS,
        Subject::Peer(_) => THEIRS,
    }
}

const fn short(row: &Storming) -> &'static str {
    match row.subject {
        Subject::Agent => "process-throttler, 20 rules",
        Subject::Exporting => "process-throttler, with OTLP",
        Subject::Peer(peer) => peer.name(),
    }
}
