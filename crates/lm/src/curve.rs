//! The loss curve of a run, as an SVG picture.

use crate::files::{FileError, atomic_write};
use crate::log::Record;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;
use thiserror::Error;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 540;
/// Text is set by the viewer; no font is needed to draw.
const FONT: &str = "sans-serif";

const TRAINING: RGBColor = RGBColor(31, 119, 180);
const VALIDATION: RGBColor = RGBColor(214, 39, 40);
const BIGRAM: RGBColor = RGBColor(70, 70, 70);
const INK: RGBColor = RGBColor(40, 40, 40);

/// Why a curve could not be drawn.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CurveError {
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The drawing library failed.
    #[error("cannot draw the loss curve: {0}")]
    Draw(String),
}

/// What is drawn: losses in nats per token over the number of steps done.
///
/// ```
/// use anemone_lm::curve::Curve;
/// let curve = Curve {
///     title: "built-in model".to_owned(),
///     training: (1..=100).map(|step| (step, 2.0 + 3.0 / step as f64)).collect(),
///     validation: vec![(50, 2.1), (100, 2.05)],
///     bigram: Some(2.04),
/// };
/// assert!(curve.to_svg()?.starts_with("<svg"));
/// # Ok::<(), anemone_lm::curve::CurveError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// Printed above.
    pub title: String,
    /// Training loss of each step, drawn thin, and smoothed over about a fiftieth of the steps.
    pub training: Vec<(u64, f64)>,
    /// Validation loss where it was evaluated, drawn as points.
    pub validation: Vec<(u64, f64)>,
    /// Cross entropy of the byte-bigram model on the validation text, drawn as a dashed line.
    pub bigram: Option<f64>,
}

impl Curve {
    /// The curve of a log's records.
    pub fn from_records(title: &str, records: &[Record], bigram: Option<f64>) -> Self {
        Self {
            title: title.to_owned(),
            training: records.iter().map(|record| (record.step, record.loss)).collect(),
            validation: records.iter().filter_map(|r| Some((r.step, r.val_loss?))).collect(),
            bigram,
        }
    }

    /// Draws the curve and writes it to a file, atomically.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CurveError> {
        let svg = self.to_svg()?;
        Ok(atomic_write(path, |writer| writer.write_all(svg.as_bytes()))?)
    }

    /// Draws the curve. Values that are not finite are left out; without any value the axes stay empty.
    ///
    /// # Errors
    /// Only what the drawing library answers; drawing to memory does not fail.
    pub fn to_svg(&self) -> Result<String, CurveError> {
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)))
            .map_err(|error| CurveError::Draw(error.to_string()))?;
        Ok(svg)
    }

    fn draw<DB: DrawingBackend>(&self, backend: DB) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        let training = finite(&self.training);
        let validation = finite(&self.validation);
        let bigram = self.bigram.filter(|nats| nats.is_finite());
        let (steps, losses) = ranges(&training, &validation, bigram);

        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(14)
            .margin_right(26)
            .caption(&self.title, (FONT, 20).into_font().color(&INK))
            .x_label_area_size(46)
            .y_label_area_size(62)
            .build_cartesian_2d(steps.clone(), losses)?;
        chart
            .configure_mesh()
            .x_desc("step")
            .y_desc("loss, nats per token")
            .axis_desc_style((FONT, 16).into_font().color(&INK))
            .label_style((FONT, 14).into_font().color(&INK))
            .x_label_formatter(&|step| format!("{step:.0}"))
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .draw()?;

        let swatch = |(x, y)| [(x, y), (x + 22, y)];
        let thin = TRAINING.mix(0.4).stroke_width(1);
        let thick = TRAINING.stroke_width(2);
        chart
            .draw_series(LineSeries::new(training.iter().copied(), thin))?
            .label("training")
            .legend(move |at| PathElement::new(swatch(at), thin));
        chart
            .draw_series(LineSeries::new(smoothed(&training), thick))?
            .label("training, smoothed")
            .legend(move |at| PathElement::new(swatch(at), thick));
        chart
            .draw_series(validation.iter().map(|&at| Circle::new(at, 4, VALIDATION.filled())))?
            .label("validation")
            .legend(|(x, y)| Circle::new((x + 11, y), 4, VALIDATION.filled()));
        if let Some(nats) = bigram {
            let line = [(steps.start, nats), (steps.end, nats)];
            let style = BIGRAM.stroke_width(2);
            chart
                .draw_series(DashedLineSeries::new(line, 7, 5, style))?
                .label(format!("byte-bigram model, {nats:.3}"))
                .legend(move |at| DashedPathElement::new(swatch(at), 7, 5, style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .margin(12)
            .legend_area_size(28)
            .label_font((FONT, 15).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.25))
            .draw()?;
        area.present()
    }
}

fn finite(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    points.iter().filter(|(_, y)| y.is_finite()).map(|&(step, y)| (step as f64, y)).collect()
}

/// What the axes show: all steps from 0, and all losses with a little room, but of losses above the first one
/// (a run that diverges) only as much as leaves the rest readable.
fn ranges(
    training: &[(f64, f64)],
    validation: &[(f64, f64)],
    bigram: Option<f64>,
) -> (Range<f64>, Range<f64>) {
    let points = || training.iter().chain(validation);
    let last_step = points().map(|&(step, _)| step).fold(1.0, f64::max);
    let losses = || points().map(|&(_, y)| y).chain(bigram);
    let low = losses().fold(f64::INFINITY, f64::min);
    let high = losses().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return (0.0..last_step, 0.0..1.0);
    }
    let first = training.first().map_or(high, |&(_, y)| y);
    let high = high.min(low + 3.0 * (first - low).max(1.0));
    let room = ((high - low) * 0.05).max(0.01);
    (0.0..last_step, low - room..high + room)
}

/// The mean of each point and its neighbours, as many before as after: about a fiftieth of all points, fewer
/// towards the ends. Unlike a running average it does not lag behind a falling loss.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half_width = (points.len() / 100).min(200);
    let mean = |(i, &(step, _)): (usize, &(f64, f64))| {
        let reach = half_width.min(i).min(points.len() - 1 - i);
        let window = &points[i - reach..=i + reach];
        (step, window.iter().map(|&(_, y)| y).sum::<f64>() / window.len() as f64)
    };
    points.iter().enumerate().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn sample() -> Curve {
        let mut random = Random::new(4);
        let loss = |step: u64| 2.3 + 3.2 * (-(step as f64) / 90.0).exp();
        Curve {
            title: "built-in model, V = 256, D = 64".to_owned(),
            training: (1..=800).map(|step| (step, loss(step) + 0.05 * random.normal())).collect(),
            validation: (1..=8).map(|i| (100 * i, loss(100 * i) + 0.01)).collect(),
            bigram: Some(2.323),
        }
    }

    #[test]
    fn the_picture_has_its_parts() {
        let svg = sample().to_svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in
            ["built-in model", "step", "loss, nats per token", "training, smoothed", "validation", "2.323"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        // Eight points and the legend's.
        assert_eq!(svg.matches("<circle").count(), 9);
        let without = Curve { bigram: None, ..sample() }.to_svg().unwrap();
        assert!(!without.contains("bigram"));
        assert!(without.len() < svg.len());
    }

    #[test]
    fn odd_data_draw_too() {
        let nan = Curve {
            training: vec![(1, f64::NAN), (2, 1e300), (3, f64::INFINITY), (4, 2.0)],
            ..Curve::default()
        };
        let one = Curve { training: vec![(0, 2.0)], title: "<&>\"".to_owned(), ..Curve::default() };
        let flat = Curve { training: vec![(1, 2.0), (u64::MAX, 2.0)], bigram: Some(f64::NAN), ..one.clone() };
        for curve in [Curve::default(), nan, one, flat] {
            let svg = curve.to_svg().unwrap();
            assert!(svg.trim_end().ends_with("</svg>"));
            assert!(!svg.contains("<&>"), "the title is not escaped");
        }
    }

    #[test]
    fn smoothing_keeps_a_constant_and_averages_noise() {
        let constant: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smoothed(&constant).iter().all(|&(_, y)| (y - 3.0).abs() < 1e-12));
        let noisy: Vec<(f64, f64)> = (0..5000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        assert!(smoothed(&noisy)[100..4900].iter().all(|&(_, y)| (y - 0.5).abs() < 0.01));
        let falling: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), 9.0 - 0.01 * f64::from(i))).collect();
        let close = |(a, b): (&(f64, f64), &(f64, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-12;
        assert!(smoothed(&falling).iter().zip(&falling).all(close), "a straight line has no lag");
        assert_eq!(smoothed(&[(1.0, 2.0), (2.0, 4.0)]), [(1.0, 2.0), (2.0, 4.0)]);
        assert!(smoothed(&[]).is_empty());
    }

    #[test]
    fn the_axes_show_everything_but_a_blow_up() {
        let (steps, losses) = ranges(&[(1.0, 5.0), (10.0, 2.0)], &[(12.0, 1.0)], Some(0.5));
        assert_eq!(steps, 0.0..12.0);
        assert!(losses.start < 0.5 && losses.end > 5.0 && losses.end < 5.5);
        let (_, losses) = ranges(&[(1.0, 5.0), (2.0, 1e9), (3.0, 4.0)], &[], None);
        assert!(losses.end > 5.0 && losses.end < 10.0, "{losses:?}");
    }
}
