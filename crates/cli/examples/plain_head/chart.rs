//! The picture: losses, the products that were dropped, and overflows, over the steps.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use anemone_lm::files::atomic_write;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::Step;

const SIZE: (u32, u32) = (900, 960);
/// Text is set by the viewer; no font is needed to draw.
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);
/// The color and width of each curve: the exact one, ours, then plain ones. Those that coincide are the narrower the
/// later they are drawn, so that all are seen.
const STYLES: [(RGBColor, u32); 5] = [
    (RGBColor(205, 205, 205), 9),
    (RGBColor(120, 180, 230), 5),
    (RGBColor(10, 50, 120), 1),
    (RGBColor(240, 140, 30), 2),
    (RGBColor(200, 30, 40), 2),
];
/// Over how many steps losses are averaged: a batch is small.
const MEAN_OF: usize = 10;

/// The steps of one head.
pub struct Curve {
    pub name: String,
    pub steps: Vec<Step>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One quantity of all curves, over the steps.
struct Panel {
    what: String,
    range: Range<f64>,
    values: Vec<Vec<f64>>,
    has_legend: bool,
}

/// Draws the picture and writes it to a file.
pub fn write(file: &Path, curves: &[Curve]) -> Result<(), Box<dyn Error>> {
    let values = |of: &dyn Fn(&Step) -> f64| -> Vec<Vec<f64>> {
        curves.iter().map(|curve| curve.steps.iter().map(of).collect()).collect()
    };
    let losses: Vec<_> = values(&|step| step.loss).iter().map(|losses| running_mean(losses)).collect();
    let overflows = values(&|step| step.overflows as f64);
    let highest = |values: &[Vec<f64>]| values.iter().flatten().copied().fold(1.0, f64::max);
    let panels = [
        Panel {
            what: format!("loss, nats per token (mean of {MEAN_OF})"),
            range: 0.0..1.05 * highest(&losses),
            values: losses,
            has_legend: true,
        },
        Panel {
            what: "products dropped in dxn, %".to_string(),
            range: -3.0..105.0,
            values: values(&|step| 100.0 * step.dropped),
            has_legend: false,
        },
        Panel {
            what: "overflows per step".to_string(),
            range: -0.05 * highest(&overflows)..1.1 * highest(&overflows),
            values: overflows,
            has_legend: false,
        },
    ];
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (loss, rest) = area.split_vertically(440);
        let (dropped, overflows) = rest.split_vertically(260);
        for (area, panel) in [loss, dropped, overflows].iter().zip(&panels) {
            draw(area, curves, panel)?;
        }
        area.present()?;
    }
    Ok(atomic_write(file, |writer| writer.write_all(svg.as_bytes()))?)
}

/// The mean of each value and those before it, [`MEAN_OF`] in all where there are so many.
fn running_mean(values: &[f64]) -> Vec<f64> {
    let mean = |last: usize| {
        let window = &values[(last + 1).saturating_sub(MEAN_OF)..=last];
        window.iter().sum::<f64>() / window.len() as f64
    };
    (0..values.len()).map(mean).collect()
}

fn draw(area: &Area<'_>, curves: &[Curve], panel: &Panel) -> Result<(), Box<dyn Error>> {
    let last = panel.values.iter().map(Vec::len).max().unwrap_or(1).max(2);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(26)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d(1.0..last as f64, panel.range.clone())?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc(&panel.what)
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .label_style((FONT, 13).into_font().color(&INK))
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .y_labels(if panel.has_legend { 9 } else { 6 })
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .axis_style(INK)
        .draw()?;
    for ((curve, values), (color, width)) in curves.iter().zip(&panel.values).zip(STYLES) {
        let style = color.stroke_width(width);
        let points = values.iter().enumerate().map(|(at, &value)| (at as f64 + 1.0, value));
        chart
            .draw_series(LineSeries::new(points.filter(|(_, value)| value.is_finite()), style))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    if panel.has_legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .margin(12)
            .legend_area_size(28)
            .label_font((FONT, 14).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.25))
            .draw()?;
    }
    Ok(())
}
