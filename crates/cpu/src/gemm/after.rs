//! What follows the sums of a product.

use half::f16;

use crate::element::Float;
use crate::kernels::Elements;
use crate::memory::Floats;

/// Elements of a bias that are widened at a time.
const STRIP: usize = 256;

/// What is added to the product.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bias<'a> {
    /// Nothing.
    None,
    /// One value per row of the result.
    Rows(Floats<'a>),
    /// One value per column of the result.
    Columns(Floats<'a>),
}

/// What follows the sums, before they are rounded to the result.
#[derive(Clone, Copy)]
pub(crate) struct After<'a> {
    /// What is added.
    pub bias: Bias<'a>,
    /// What goes on with the values.
    pub epilogue: Option<Elements<'a>>,
}

impl<'a> From<Bias<'a>> for After<'a> {
    fn from(bias: Bias<'a>) -> After<'a> {
        After { bias, epilogue: None }
    }
}

impl After<'_> {
    /// Applies it to a part of a row of the result, which has `columns`.
    pub(crate) fn apply(&self, values: &mut [f32], (row, first_column, columns): (usize, usize, usize)) {
        match self.bias {
            Bias::None => {}
            Bias::Rows(bias) => {
                let bias = bias.get(row);
                values.iter_mut().for_each(|value| *value += bias);
            }
            Bias::Columns(bias) => {
                let bias = bias.from(first_column);
                for (strip, values) in values.chunks_mut(STRIP).enumerate() {
                    let (mut room, at) = ([0.0; STRIP], strip * STRIP..strip * STRIP + values.len());
                    let bias = match bias {
                        Floats::F16(bias) => f16::as_wide(&bias[at], &mut room[..values.len()]),
                        Floats::F32(bias) => &bias[at],
                    };
                    values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                }
            }
        }
        if let Some(epilogue) = self.epilogue {
            epilogue(row * columns + first_column, values);
        }
    }
}
