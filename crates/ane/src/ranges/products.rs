//! Bounds of sums of products: convolutions and matrix products.

use anemone_mil::ops::{Conv, ConvTranspose, Convolution, Einsum, Linear, Matmul, MatrixProduct, Operand};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::Dim;

use super::interval::{each_element, times};
use super::{Interval, Site};

/// What is known of an op's sums of products.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// What the sums lie in, before they are rounded.
    pub range: Interval,
    /// No sum of some of the terms, in any order, has a larger magnitude.
    pub peak: f64,
    /// The largest magnitude of each factor.
    pub factors: (f64, f64),
    /// The number of terms of a sum, where dimensions say.
    pub terms: Option<u64>,
}

/// Of the weights of one sum, those above zero added up, and the magnitudes of those below.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    positive: f64,
    negative: f64,
}

impl Weights {
    fn add(&mut self, weight: f64) {
        if weight > 0.0 {
            self.positive += weight;
        } else {
            self.negative -= weight;
        }
    }

    /// `Σ w·x`.
    fn sum(self, x: Interval) -> Interval {
        let end = |above: f64, below: f64| times(self.positive, above) - times(self.negative, below);
        Interval::new(end(x.low, x.high), end(x.high, x.low))
    }

    /// What the sums of some of the terms lie in.
    fn partial(self, x: Interval) -> Interval {
        let (above, below) = (x.high.max(0.0), (-x.low).max(0.0));
        let end = |first: f64, second: f64| times(self.positive, first) + times(self.negative, second);
        Interval::new(-end(below, above), end(above, below))
    }
}

/// The sums of products of an op; `None` for an op that has none.
pub(super) fn product(site: &Site<'_>) -> Option<Product> {
    match site.op.name.as_str() {
        "matmul" => {
            let row: Matmul = site.bound()?;
            matrix(site, &MatrixProduct::of_matmul(&row).ok()?)
        }
        "linear" => {
            let row: Linear = site.bound()?;
            matrix(site, &MatrixProduct::of_linear(&row).ok()?)
        }
        "conv" => conv(site),
        "conv_transpose" => conv_transpose(site),
        "einsum" => einsum(site),
        _ => None,
    }
}

fn matrix(site: &Site<'_>, product: &MatrixProduct<'_>) -> Option<Product> {
    let MatrixProduct { x, y, k, bias, .. } = product;
    let inner = |operand: &Operand, last: bool| match operand.rank() {
        0 => None,
        1 => Some(0),
        rank => Some(if last { rank - 1 } else { rank - 2 }),
    };
    let known = |operand: &Operand, axis: Option<usize>| {
        let tensor = operand.value.as_ref()?;
        weights(tensor, axis?, axis? + 1)
    };
    let of_y = known(y, inner(y, product.transpose_y));
    let (data, weight, sums) = match of_y {
        Some(sums) => (*x, *y, Some(sums)),
        None => (*y, *x, known(x, inner(x, !product.transpose_x))),
    };
    let terms = Terms { data: site.range(data), weight: site.range(weight), count: k.known(), some: false };
    let product = terms.product(sums, bias.map(|bias| site.range(bias)));
    Some(Product { factors: (site.range(x).largest(), site.range(y).largest()), ..product })
}

fn einsum(site: &Site<'_>) -> Option<Product> {
    let row: Einsum = site.bound()?;
    let [x, y] = &row.values[..] else { return None };
    let count = x.shape().0.last()?.known();
    let terms = Terms { data: site.range(x), weight: site.range(y), count, some: false };
    Some(terms.product(None, None))
}

fn conv(site: &Site<'_>) -> Option<Product> {
    let row: Conv = site.bound()?;
    let conv = Convolution::of(&row).ok()?;
    let padded = conv.pads.iter().any(|pads| *pads != Some((0, 0)));
    let data = site.range(conv.x);
    let data = if padded { data.hull(Interval::ZERO) } else { data };
    let sums = conv.weight.value.as_ref().and_then(|tensor| weights(tensor, 1, tensor.shape().len()));
    let count = known_product(&conv.weight.shape().0[1..]);
    let terms = Terms { data, weight: site.range(conv.weight), count, some: false };
    Some(terms.product(sums, conv.bias.map(|bias| site.range(bias))))
}

/// Each sum of a transposed convolution has some of the weights of an output channel as its terms.
fn conv_transpose(site: &Site<'_>) -> Option<Product> {
    let row: ConvTranspose = site.bound()?;
    let weight = &row.weight;
    let sums = weight.value.as_ref().and_then(|tensor| {
        let taps = weights(tensor, 2, tensor.shape().len())?;
        let channels = *tensor.shape().get(1)?;
        let mut sums = vec![Weights::default(); channels];
        for (position, tap) in taps.iter().enumerate() {
            let sum = sums.get_mut(position.checked_rem(channels)?)?;
            sum.positive += tap.positive;
            sum.negative += tap.negative;
        }
        Some(sums)
    });
    let dims = &weight.shape().0;
    let kernel = known_product(dims.get(2..)?);
    let count = kernel.zip(dims.first()?.known()).and_then(|(kernel, channels)| kernel.checked_mul(channels));
    let terms = Terms { data: site.range(&row.x), weight: site.range(weight), count, some: true };
    Some(terms.product(sums, row.bias.as_ref().map(|bias| site.range(bias))))
}

fn known_product(dims: &[Dim]) -> Option<u64> {
    dims.iter().try_fold(1u64, |product, dim| product.checked_mul(dim.known()?))
}

/// For each place of the axes outside `from..to`, the weights along those within; `None` where they are no numbers.
fn weights(tensor: &Tensor, from: usize, to: usize) -> Option<Vec<Weights>> {
    let dims = tensor.shape();
    let length = |dims: &[usize]| dims.iter().product::<usize>();
    let (outer, along, inner) =
        (length(dims.get(..from)?), length(dims.get(from..to)?), length(dims.get(to..)?));
    if tensor.is_empty() {
        return None;
    }
    let mut sums = vec![Weights::default(); outer * inner];
    each_element(tensor, |position, weight| {
        let row = position / inner;
        sums[row / along * inner + position % inner].add(weight);
    })?;
    Some(sums)
}

/// The terms of sums of products.
struct Terms {
    data: Interval,
    weight: Interval,
    /// The terms of each sum; `None` where dimensions do not say.
    count: Option<u64>,
    /// Whether a sum may have only some of the terms.
    some: bool,
}

impl Terms {
    fn product(&self, sums: Option<Vec<Weights>>, bias: Option<Interval>) -> Product {
        let (range, partial) = match sums {
            Some(sums) => self.by_weights(&sums),
            None => {
                let term = self.data.times(self.weight);
                (term.summed(self.count), term.hull(Interval::ZERO).summed(self.count))
            }
        };
        let range = if self.some { range.hull(partial) } else { range };
        let bias = bias.unwrap_or(Interval::ZERO);
        let peak = partial.largest() + bias.largest();
        let whole = range.plus(bias);
        let wider = whole.widened(peak);
        // Terms of one sign keep it, however their sum is rounded.
        let signed = |interval: Interval| interval.low >= 0.0;
        let low = if signed(partial) && signed(bias) { wider.low.max(0.0) } else { wider.low };
        Product {
            range: Interval::new(low, wider.high),
            peak,
            factors: (self.data.largest(), self.weight.largest()),
            terms: self.count,
        }
    }

    /// The sums, and the sums of some of their terms, over all the places that have weights of their own.
    fn by_weights(&self, sums: &[Weights]) -> (Interval, Interval) {
        let around = |of: &dyn Fn(Weights) -> Interval| {
            sums.iter().map(|&sum| of(sum)).reduce(Interval::hull).unwrap_or(Interval::ZERO)
        };
        (around(&|sum| sum.sum(self.data)), around(&|sum| sum.partial(self.data)))
    }
}
