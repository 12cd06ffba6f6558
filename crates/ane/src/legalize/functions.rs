//! Functions of one number, and sums along an axis, written with ops that chips compute right.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Clip, CumSum, Gelu, Minimum, Operand, Round, Silu, Softplus, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::tensor::Tensor;
use anemone_mil::verify::Verified;

use super::build::{Replacement, axis, dims, position};
use crate::chips::Chips;

/// Writes `gelu` out, by the formula of its mode (R22).
pub(super) fn gelu(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Gelu>() else { return Ok(None) };
        let (name, x) = (site.name(), &row.x);
        let gate = match row.mode.as_str() {
            "EXACT" => {
                let scaled =
                    build.bind(&format!("{name}_scaled"), call::mul(x, std::f64::consts::FRAC_1_SQRT_2))?;
                build.bind(&format!("{name}_erf"), call::erf(scaled))?
            }
            "TANH_APPROXIMATION" => {
                // √(2/π) · x · (1 + 0.044715·x²), without the cube, which is the first to overflow.
                let square = build.bind(&format!("{name}_square"), call::mul(x, x))?;
                let factor = call::add(call::mul(square, 0.044_715), 1.0);
                let factor = build.bind(&format!("{name}_factor"), factor)?;
                let inner = call::mul(call::mul(x, factor), (2.0 / std::f64::consts::PI).sqrt());
                let inner = build.bind(&format!("{name}_inner"), inner)?;
                build.bind(&format!("{name}_tanh"), call::tanh(inner))?
            }
            "SIGMOID_APPROXIMATION" => {
                let gate = call::sigmoid(call::mul(x, 1.702));
                let gate = build.bind(&format!("{name}_gate"), gate)?;
                return Ok(Some(vec![build.bind(name, call::mul(x, gate))?]));
            }
            _ => return Ok(None),
        };
        let gate = build.bind(&format!("{name}_gate"), call::add(gate, 1.0))?;
        let half = build.bind(&format!("{name}_half"), call::mul(x, 0.5))?;
        Ok(Some(vec![build.bind(name, call::mul(half, gate))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `gelu` written out (R22)"))
}

/// Writes `silu` as a product with `sigmoid`, whose table is closer (R56).
pub(super) fn silu(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Silu>() else { return Ok(None) };
        let gate = build.bind(&format!("{}_gate", site.name()), call::sigmoid(&row.x))?;
        Ok(Some(vec![build.bind(site.name(), call::mul(&row.x, gate))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `silu` written with `sigmoid` (R56)"))
}

/// The largest operand of `softplus` that is right on every chip.
const SOFTPLUS_MOST: f64 = 10.0;

/// Writes `softplus` so that its `exp` does not overflow (R37).
pub(super) fn softplus(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Softplus>() else { return Ok(None) };
        if row.x.id.is_some_and(|id| is_bounded(site.giver(id))) {
            return Ok(None);
        }
        let (name, x) = (site.name(), &row.x);
        let bounded = build.bind(&format!("{name}_bounded"), call::minimum(x, SOFTPLUS_MOST))?;
        let low = build.bind(&format!("{name}_low"), call::softplus(bounded))?;
        let high = build.bind(&format!("{name}_high"), call::relu(call::sub(x, SOFTPLUS_MOST)))?;
        Ok(Some(vec![build.bind(name, call::add(low, high))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `softplus` kept from overflowing (R37)"))
}

/// Whether what an op gives is no more than `softplus` takes.
fn is_bounded(giver: Option<Site<'_>>) -> bool {
    let Some(giver) = giver else { return false };
    let at_most = |operand: &Operand| {
        let values = operand.value.as_ref().and_then(|value| value.to_f64());
        values.is_some_and(|values| values.iter().all(|&value| value <= SOFTPLUS_MOST))
    };
    giver.bound::<Clip>().is_some_and(|row| row.beta <= SOFTPLUS_MOST)
        || giver.bound::<Minimum>().is_some_and(|row| at_most(&row.x) || at_most(&row.y))
}

/// Writes `round` with `floor`: a half goes to the even neighbour (R36), without a sum that is no integer and large.
pub(super) fn round(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Round>() else { return Ok(None) };
        let (name, x) = (site.name(), &row.x);
        let floor = build.bind(&format!("{name}_floor"), call::floor(x))?;
        let rest = build.bind(&format!("{name}_rest"), call::sub(x, floor))?;
        // A product of `floor` and a constant is lost on some chips (R35), a sum is not.
        let half = build.bind(&format!("{name}_half"), call::floor(call::mul(x, 0.5)))?;
        let odd = build.bind(&format!("{name}_odd"), call::sub(floor, call::add(half, half)))?;
        let even = build.bind(&format!("{name}_even"), call::add(floor, odd))?;
        let next = build.bind(&format!("{name}_next"), call::add(floor, 1.0))?;
        let tie = call::select(call::equal(rest, 0.5), even, floor);
        let tie = build.bind(&format!("{name}_tie"), tie)?;
        Ok(Some(vec![build.bind(name, call::select(call::greater(rest, 0.5), next, tie))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `round` written with `floor` (R36)"))
}

/// The longest axis that `cumsum` is written as a product along: its constant has the square of as many elements.
const LONGEST_SUM: i32 = 4096;

/// Writes `cumsum` of floating point as a product with a triangle of ones (R28). Where it is not finite, so is every sum
/// then.
pub(super) fn cumsum(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| match site.bound::<CumSum>() {
        Some(row) => as_product(site, build, &row),
        None => Ok(None),
    };
    replace_ops(program, replace, |number| {
        format!("{number} `cumsum` written as products with a triangle of ones (R28)")
    })
}

fn as_product(site: Site<'_>, build: &mut FunctionBuilder, row: &CumSum) -> Replacement {
    let rank = row.x.rank();
    let (Some(shape), Some(along)) = (dims(&row.x.ty), position(row.axis, rank)) else { return Ok(None) };
    let length = shape[along];
    if !row.x.dtype().is_float() || !(1..=LONGEST_SUM).contains(&length) || rank > 4 {
        return Ok(None);
    }
    let (name, terms) = (site.name(), length as usize);
    // Row i of the triangle says of which sums x[i] is a term.
    let is_term = |term: usize, of: usize| match (row.reverse, row.exclusive) {
        (false, false) => term <= of,
        (false, true) => term < of,
        (true, false) => term >= of,
        (true, true) => term > of,
    };
    let ones: Vec<f64> =
        (0..terms * terms).map(|at| f64::from(u8::from(is_term(at / terms, at % terms)))).collect();
    let Ok(triangle) = Tensor::from_f64(row.x.dtype(), &[terms, terms], &ones) else { return Ok(None) };
    let triangle = build.constant(&format!("{name}_triangle"), triangle);
    let product =
        |x: anemone_mil::builder::Input| call::matmul(x, triangle).transpose_x(false).transpose_y(false);
    if rank == 1 {
        let row_of_x = build.bind(&format!("{name}_x"), call::reshape(&row.x, vec![1, length]))?;
        let sums = build.bind(&format!("{name}_sums"), product(row_of_x.into()))?;
        return Ok(Some(vec![build.bind(name, call::reshape(sums, vec![length]))?]));
    }
    if along + 1 == rank {
        return Ok(Some(vec![build.bind(name, product((&row.x).into()))?]));
    }
    let mut perm: Vec<i32> = (0..rank).map(axis).collect();
    perm.swap(along, rank - 1);
    let x = build.bind(&format!("{name}_x"), call::transpose(&row.x, perm.clone()))?;
    let sums = build.bind(&format!("{name}_sums"), product(x.into()))?;
    Ok(Some(vec![build.bind(name, call::transpose(sums, perm))?]))
}
