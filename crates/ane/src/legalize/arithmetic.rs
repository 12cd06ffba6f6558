//! Reductions, roots, products and shifts that a chip refuses or computes otherwise.

use anemone_mil::builder::{AnyCall, BuildError, FunctionBuilder};
use anemone_mil::ops::{Ceil, Conv, Floor, Inverse, LayerNorm, Log, Mul, Operand, ReduceMean, Round};
use anemone_mil::ops::{Rsqrt, Sqrt, Square, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use anemone_mil::verify::{Verified, count};

use super::build::{alike, axis, conv_with, dims, either, position};
use crate::chips::Chips;

/// Writes a mean of floating point as a sum times 1/n (R23).
pub(super) fn reduce_mean(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<ReduceMean>().filter(|row| row.x.dtype().is_float()) else {
            return Ok(None);
        };
        let rank = row.x.rank();
        let all = || (0..rank).map(axis).collect();
        let axes: Vec<i32> = row.axes.clone().unwrap_or_else(all);
        let lengths = axes.iter().map(|&axis| row.x.shape().0.get(position(axis, rank)?)?.known());
        let number = lengths.map(|length| Some(length? as f64)).product::<Option<f64>>();
        let Some(number) = number.filter(|&number| number > 0.0) else { return Ok(None) };
        let name = site.name();
        let sum = call::reduce_sum(&row.x).axes(axes).keep_dims(row.keep_dims);
        let sum = build.bind(&format!("{name}_sum"), sum)?;
        Ok(Some(vec![build.bind(name, call::mul(sum, 1.0 / number))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `reduce_mean` written as sums times 1/n (R23)"))
}

/// Adds the bias of convolutions apart (R20).
pub(super) fn conv_bias(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Conv>() else { return Ok(None) };
        let bias = row.bias.as_ref().filter(|bias| alike([*bias, &row.x]));
        let (Some(bias), Some(ty)) = (bias, site.ty()) else { return Ok(None) };
        let mut shape = vec![1; ty.shape.rank()];
        let Some(channels) = bias.shape().0.first().and_then(|dim| i32::try_from(dim.known()?).ok()) else {
            return Ok(None);
        };
        shape[1] = channels;
        let name = site.name();
        let product = build.bind(&format!("{name}_product"), conv_with(&row, &row.weight, None))?;
        let bias = build.bind(&format!("{name}_b"), call::reshape(bias, shape))?;
        Ok(Some(vec![build.bind(name, call::add(product, bias))?]))
    };
    replace_ops(program, replace, |number| {
        format!("the bias of {} added apart (R20)", count(number, "`conv`"))
    })
}

/// Writes the roots of what reductions give as powers (R18).
pub(super) fn roots(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let (x, epsilon, power) = if let Some(row) = site.bound::<Sqrt>() {
            (row.x, 0.0, 0.5)
        } else if let Some(row) = site.bound::<Rsqrt>() {
            (row.x, row.epsilon.unwrap_or(RSQRT_EPSILON), -0.5)
        } else {
            return Ok(None);
        };
        if !x.id.is_some_and(|id| is_of_reduction(site, id)) {
            return Ok(None);
        }
        let name = site.name();
        let power = if rounds_to_zero(x.dtype(), epsilon) {
            call::pow(&x, power)
        } else {
            call::pow(build.bind(&format!("{name}_shifted"), call::add(&x, epsilon))?, power)
        };
        Ok(Some(vec![build.bind(name, power)?]))
    };
    replace_ops(program, replace, |number| format!("{} written as `pow` (R18)", count(number, "root")))
}

/// Whether a value comes from a reduction, with constants added or multiplied between.
fn is_of_reduction(site: Site<'_>, value: ValueId) -> bool {
    let mut value = Some(value);
    while let Some(giver) = value.and_then(|value| site.giver(value)) {
        if giver.op().name.starts_with("reduce_") {
            return true;
        }
        let mut computed = giver.op().reads().filter(|&read| !site.facts().is_constant(read));
        let (only, another) = (computed.next(), computed.next());
        let goes_on = giver.row().is_some_and(|row| row.elementwise) && another.is_none();
        value = only.filter(|_| goes_on);
    }
    false
}

/// The shifts of `rsqrt`, `inverse` and `log` where none is given.
const RSQRT_EPSILON: f64 = 1e-12;
const INVERSE_EPSILON: f64 = 1e-4;
const LOG_EPSILON: f64 = 1e-45;

fn rounds_to_zero(dtype: DType, value: f64) -> bool {
    let rounded = Tensor::from_f64(dtype, &[], &[value]).ok().and_then(|tensor| tensor.to_f64());
    rounded.is_some_and(|values| values.iter().all(|&value| value == 0.0))
}

/// Gives `rsqrt`, `log` and `inverse` the shift that they have by default (R19).
pub(super) fn epsilons(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let call: AnyCall = if let Some(row) = site.bound::<Rsqrt>().filter(|row| row.epsilon.is_none()) {
            call::rsqrt(&row.x).epsilon(RSQRT_EPSILON).into()
        } else if let Some(row) = site.bound::<Inverse>().filter(|row| row.epsilon.is_none()) {
            call::inverse(&row.x).epsilon(INVERSE_EPSILON).into()
        } else if let Some(row) = site.bound::<Log>().filter(|row| row.epsilon.is_none()) {
            call::log(&row.x).epsilon(LOG_EPSILON).into()
        } else {
            return Ok(None);
        };
        Ok(Some(vec![build.bind(site.name(), call)?]))
    };
    replace_ops(program, replace, |number| format!("{} given its `epsilon` (R19)", count(number, "op")))
}

/// Writes `square` as a product (R39).
pub(super) fn square(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| match site.bound::<Square>() {
        Some(row) => Ok(Some(vec![build.bind(site.name(), call::mul(&row.x, &row.x))?])),
        None => Ok(None),
    };
    replace_ops(program, replace, |number| format!("{number} `square` written as `mul` (R39)"))
}

/// The largest constant that a scalar factor is spread over.
const LARGEST_FACTOR: usize = 1 << 20;

/// Gives the scalar that a `floor`, `ceil` or `round` is multiplied by its full shape (R35).
pub(super) fn scalar_factors(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Mul>() else { return Ok(None) };
        let is_scalar = |operand: &Operand| operand.constant && operand.shape().elements() == Some(1);
        let Some((rounded, factor)) = either(&row.x, &row.y, is_scalar) else { return Ok(None) };
        let is_rounded = rounded.id.and_then(|id| site.giver(id)).is_some_and(|giver| {
            giver.bound::<Floor>().is_some()
                || giver.bound::<Ceil>().is_some()
                || giver.bound::<Round>().is_some()
        });
        let (Some(shape), Some(value)) = (rounded.shape().to_known(), factor.value.as_ref()) else {
            return Ok(None);
        };
        let elements: usize = shape.iter().product();
        if !is_rounded || elements == 1 || elements > LARGEST_FACTOR {
            return Ok(None);
        }
        let Some(&[number]) = value.to_f64().as_deref() else { return Ok(None) };
        let Ok(full) = Tensor::from_f64(factor.dtype(), &shape, &vec![number; elements]) else {
            return Ok(None);
        };
        let name = site.name();
        let full = build.constant(&format!("{name}_factor"), full);
        Ok(Some(vec![build.bind(name, call::mul(rounded, full))?]))
    };
    replace_ops(program, replace, |number| {
        format!("{} given full shape (R35)", count(number, "scalar factor"))
    })
}

/// Writes the product of a reduction and 0 as the difference of the reduction from itself (R38).
pub(super) fn zero_factors(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Mul>() else { return Ok(None) };
        let is_zero = |operand: &Operand| {
            let values = operand.value.as_ref().and_then(|value| value.to_f64());
            operand.constant && values.is_some_and(|values| values.iter().all(|&value| value == 0.0))
        };
        let Some((reduced, zero)) = either(&row.x, &row.y, is_zero) else { return Ok(None) };
        let giver = reduced.id.and_then(|id| site.giver(id));
        if !giver.is_some_and(|giver| giver.op().name.starts_with("reduce_")) {
            return Ok(None);
        }
        let name = site.name();
        let nothing = build.bind(&format!("{name}_nothing"), call::sub(reduced, reduced))?;
        Ok(Some(vec![build.bind(name, call::add(nothing, zero))?]))
    };
    replace_ops(program, replace, |number| {
        format!("{} of a reduction and 0 written as a difference (R38)", count(number, "product"))
    })
}

/// Normalises without gamma and beta, which are multiplied and added then, where they vary over too many elements
/// (R40).
pub(super) fn layer_norm(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| match site.bound::<LayerNorm>() {
        Some(row) => normalised(site, build, &row),
        None => Ok(None),
    };
    replace_ops(program, replace, |number| {
        format!("gamma and beta of {number} `layer_norm` applied apart (R40)")
    })
}

/// The shortest row whose gamma and beta may not vary (R40).
const LONG_ROW: i32 = 1024;

fn normalised(
    site: Site<'_>,
    build: &mut FunctionBuilder,
    row: &LayerNorm,
) -> Result<Option<Vec<ValueId>>, BuildError> {
    let Some(x) = dims(&row.x.ty) else { return Ok(None) };
    let all = || (0..x.len()).map(axis).collect();
    let axes: Vec<i32> = row.axes.clone().unwrap_or_else(all);
    let mut shape = vec![1; x.len()];
    for axis in axes.iter().filter_map(|&axis| position(axis, x.len())) {
        shape[axis] = x[axis];
    }
    let length: i32 = shape.iter().fold(1, |product: i32, &length| product.saturating_mul(length));
    if row.gamma.is_none() && row.beta.is_none() || length < LONG_ROW {
        return Ok(None);
    }
    if !alike(row.gamma.iter().chain(&row.beta).map(|given| &**given).chain([&row.x])) {
        return Ok(None);
    }
    let name = site.name();
    let plain = call::layer_norm(&row.x).axes(axes).epsilon(row.epsilon.unwrap_or(1e-5));
    let mut value = build.bind(&format!("{name}_normal"), plain)?;
    if let Some(gamma) = &row.gamma {
        let gamma = build.bind(&format!("{name}_gamma"), call::reshape(&**gamma, shape.clone()))?;
        let last = if row.beta.is_some() { format!("{name}_scaled") } else { name.to_string() };
        value = build.bind(&last, call::mul(value, gamma))?;
    }
    if let Some(beta) = &row.beta {
        let beta = build.bind(&format!("{name}_beta"), call::reshape(&**beta, shape))?;
        value = build.bind(name, call::add(value, beta))?;
    }
    Ok(Some(vec![value]))
}
