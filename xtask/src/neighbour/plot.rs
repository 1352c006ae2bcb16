//! The plot of the two runs: how long nginx waits, and what the hogs get.

use std::time::Duration;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::neighbour::measure::Run;
use crate::neighbour::{FIRST_HOGS, OBJECTIVE};

const SIZE: (u32, u32) = (900, 640);
/// Waits below this are drawn here, ms: the axis is logarithmic.
const LEAST_MS: f64 = 0.001;
const MOST_MS: f64 = 1_000.0;
const WITHOUT: RGBColor = RGBColor(196, 64, 48);
const WITH: RGBColor = RGBColor(32, 96, 176);

/// The picture as text.
///
/// # Errors
/// When it cannot be drawn.
pub(super) fn svg(without: &Run, with: &Run, second: Duration) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, without, with, second).map_err(|error| anyhow!("draw the plot: {error}"))?;
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(text: &mut String, without: &Run, with: &Run, second: Duration) -> Drawn {
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (upper, lower) = area.split_vertically(SIZE.1 / 2);
    let seconds = with.windows().last().map_or(1.0, |(end, _)| *end);
    let marks = [FIRST_HOGS.as_secs_f64(), second.as_secs_f64()];

    let mut chart = ChartBuilder::on(&upper)
        .caption("How long nginx waits for a CPU (p99 of half a second)", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, (LEAST_MS..MOST_MS).log_scale())?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("seconds").y_desc("ms").draw()?;
    let lines = [(without, WITHOUT, "without the agent"), (with, WITH, "with the agent")];
    for (run, colour, name) in lines {
        let waits = run.windows().into_iter().map(|(end, p99)| (end, p99.clamp(LEAST_MS, MOST_MS)));
        chart
            .draw_series(LineSeries::new(waits, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    let objective = OBJECTIVE.as_secs_f64() * 1e3;
    chart
        .draw_series(DashedLineSeries::new(
            [(0.0, objective), (seconds, objective)],
            6,
            4,
            BLACK.stroke_width(1),
        ))?
        .label("objective")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK));
    for mark in marks {
        chart.draw_series(DashedLineSeries::new(
            [(mark, LEAST_MS), (mark, MOST_MS)],
            2,
            4,
            BLACK.mix(0.5).into(),
        ))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;

    let most = without.hogs.iter().chain(&with.hogs).map(|hogs| hogs.percent).fold(100.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(&lower)
        .caption("What the hogs get (percent of a CPU)", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("seconds").y_desc("%").draw()?;
    for (run, colour, _) in lines {
        let shares = run.hogs.iter().map(|hogs| (hogs.at.as_secs_f64(), hogs.percent));
        chart.draw_series(LineSeries::new(shares, colour.stroke_width(2)))?;
    }
    for mark in marks {
        chart.draw_series(DashedLineSeries::new([(mark, 0.0), (mark, most)], 2, 4, BLACK.mix(0.5).into()))?;
    }
    area.present()?;
    Ok(())
}
