//! Matrix products and convolutions that are too large for a chip.

use anemone_mil::builder::{FunctionBuilder, Input};
use anemone_mil::ops::{Conv, Convolution, Linear, Matmul, MatrixProduct, Operand, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::verify::{Verified, count};

use super::build::{Replacement, alike, conv_with, cut, dims, join, sum};
use super::limits::{Longest, tiles};
use crate::chips::Chips;
use crate::limits::{MANY_CHANNELS, WIDE};

/// Makes matrix products of 1×1 convolutions that take 32000 channels or more, or whose weight is computed (R4, R25, R44).
pub(super) fn conv_to_matmul(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let many = |row: &Conv| {
        let taken = row.weight.shape().0.get(1).and_then(|dim| dim.known());
        taken.is_some_and(|taken| taken >= MANY_CHANNELS)
    };
    convolutions_to_products(program, "R4, R25, R44", |row| many(row) || !row.weight.constant)
}

/// Makes matrix products of the 1×1 convolutions that are `wanted`, as a rule asks for.
pub(crate) fn convolutions_to_products(
    program: &Verified,
    rule: &str,
    wanted: impl Fn(&Conv) -> bool,
) -> Result<Rewritten, PassError> {
    replace_ops(
        program,
        |site, build| match site.bound::<Conv>() {
            Some(row) if wanted(&row) => as_matmul(site, build, &row),
            _ => Ok(None),
        },
        |number| match number {
            1 => format!("1 convolution made a matrix product ({rule})"),
            number => format!("{number} convolutions made matrix products ({rule})"),
        },
    )
}

fn as_matmul(site: Site<'_>, build: &mut FunctionBuilder, row: &Conv) -> Replacement {
    let Ok(convolution) = Convolution::of(row) else { return Ok(None) };
    let (Some(x), Some(w), Some(result)) = (dims(&row.x.ty), dims(&row.weight.ty), dims(&convolution.result))
    else {
        return Ok(None);
    };
    let is_pointwise = w[2..].iter().all(|&length| length == 1)
        && convolution.strides.iter().all(|&stride| stride == 1)
        && convolution.pads.iter().all(|&pad| pad == Some((0, 0)))
        && convolution.groups == 1;
    if !is_pointwise || !alike([&row.x, &row.weight].into_iter().chain(&row.bias)) {
        return Ok(None);
    }
    let name = site.name();
    let Some(positions) = x[2..].iter().try_fold(1i32, |product, &length| product.checked_mul(length)) else {
        return Ok(None);
    };
    let columns: Input = match x.len() {
        3 => (&row.x).into(),
        _ => build.bind(&format!("{name}_x"), call::reshape(&row.x, vec![x[0], x[1], positions]))?.into(),
    };
    let weight = build.bind(&format!("{name}_w"), call::reshape(&row.weight, vec![1, w[0], w[1]]))?;
    let mut product = build.bind(&format!("{name}_product"), call::matmul(weight, columns))?;
    if let Some(bias) = &row.bias {
        let bias = build.bind(&format!("{name}_b"), call::reshape(bias, vec![1, w[0], 1]))?;
        product = build.bind(&format!("{name}_biased"), call::add(product, bias))?;
    }
    Ok(Some(vec![build.bind(name, call::reshape(product, result))?]))
}

/// Writes `linear` as `matmul` where a dimension of it is too long (R1, R2, R3).
pub(super) fn linear_to_matmul(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Linear>() else { return Ok(None) };
        let Ok(product) = MatrixProduct::of_linear(&row) else { return Ok(None) };
        let name = site.name();
        let bias = row.bias.as_deref();
        if too_long(&product, &limits).is_none()
            || row.x.rank() < 2
            || !alike([&row.x, &*row.weight].into_iter().chain(bias))
        {
            return Ok(None);
        }
        let matmul = call::matmul(&row.x, &*row.weight).transpose_x(false).transpose_y(true);
        Ok(Some(vec![match &row.bias {
            Some(bias) => {
                let product = build.bind(&format!("{name}_product"), matmul)?;
                build.bind(name, call::add(product, &**bias))?
            }
            None => build.bind(name, matmul)?,
        }]))
    };
    replace_ops(program, replace, |number| {
        format!("{number} `linear` written as `matmul`, as a dimension is too long (R1, R2, R3)")
    })
}

/// A dimension of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Rows,
    Inner,
    Columns,
}

/// The dimension of a product that is too long, and its length.
fn too_long(product: &MatrixProduct<'_>, limits: &Longest) -> Option<(Dimension, usize)> {
    let dimensions = [
        (Dimension::Rows, product.m, limits.product),
        (Dimension::Columns, product.n, limits.product),
        (Dimension::Inner, product.k, limits.inner),
    ];
    let lengths = dimensions.into_iter().filter_map(|(which, dim, most)| {
        let length = dim.known().filter(|&length| length > most)?;
        Some((which, usize::try_from(length).ok()?))
    });
    lengths.into_iter().next()
}

/// The axes of the operands of a product that a dimension of it is.
fn axes(product: &MatrixProduct<'_>, dimension: Dimension) -> (Option<usize>, Option<usize>) {
    let axis = |operand: &Operand, from_end: usize| operand.rank().checked_sub(from_end);
    let (x_inner, y_inner) = (1 + usize::from(product.transpose_x), 2 - usize::from(product.transpose_y));
    let vector = |operand: &Operand| operand.rank() == 1;
    match dimension {
        Dimension::Inner if vector(product.y) => (axis(product.x, x_inner), Some(0)),
        Dimension::Inner => (axis(product.x, x_inner), axis(product.y, y_inner)),
        Dimension::Rows => (axis(product.x, 3 - x_inner), None),
        Dimension::Columns => (None, axis(product.y, 3 - y_inner)),
    }
}

/// Cuts the sums of a matrix product that are too long into tiles, and adds the partial sums (R1, R2, R3).
pub(super) fn inner_tiles(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let row = site.bound::<Matmul>().filter(|row| alike([&row.x, &row.y]));
        let Some(row) = row else { return Ok(None) };
        let Ok(product) = MatrixProduct::of_matmul(&row) else { return Ok(None) };
        let Some((Dimension::Inner, length)) = too_long(&product, &limits) else { return Ok(None) };
        let (Some(x_axis), Some(y_axis)) = axes(&product, Dimension::Inner) else { return Ok(None) };
        let (name, lengths) = (site.name(), tiles(length));
        let xs = cut(site, build, &format!("{name}_x"), &row.x, x_axis, &lengths)?;
        let ys = cut(site, build, &format!("{name}_y"), &row.y, y_axis, &lengths)?;
        let mut parts = Vec::with_capacity(lengths.len());
        for (x, y) in xs.into_iter().zip(ys) {
            let product = call::matmul(x, y).transpose_x(row.transpose_x).transpose_y(row.transpose_y);
            parts.push(build.bind(&format!("{name}_part_{}", parts.len()), product)?);
        }
        Ok(sum(build, name, parts)?.map(|sum| vec![sum]))
    };
    replace_ops(program, replace, |number| {
        format!("the sums of {} cut into tiles (R1, R2, R3)", count(number, "matrix product"))
    })
}

/// Cuts the rows or columns of a matrix product that are too many, and the channels that a convolution gives, into
/// tiles, which are joined again (R1, R2, R5).
pub(super) fn output_tiles(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        if let Some(row) = site.bound::<Conv>() {
            return channel_tiles(site, build, &row, &limits);
        }
        let row = site.bound::<Matmul>().filter(|row| alike([&row.x, &row.y]));
        let Some(row) = row else { return Ok(None) };
        let Ok(product) = MatrixProduct::of_matmul(&row) else { return Ok(None) };
        let Some((dimension, length)) = too_long(&product, &limits) else { return Ok(None) };
        let rank = product.result.shape.rank();
        let (name, lengths) = (site.name(), tiles(length));
        let tile = |part: usize| format!("{name}_{part}");
        let mut parts = Vec::with_capacity(lengths.len());
        let result_axis = match axes(&product, dimension) {
            (Some(axis), None) if row.y.rank() > 1 || rank > 0 => {
                for x in cut(site, build, &format!("{name}_x"), &row.x, axis, &lengths)? {
                    let product = call::matmul(x, &row.y);
                    let product = product.transpose_x(row.transpose_x).transpose_y(row.transpose_y);
                    parts.push(build.bind(&tile(parts.len()), product)?);
                }
                rank - 1 - usize::from(row.y.rank() > 1)
            }
            (None, Some(axis)) => {
                for y in cut(site, build, &format!("{name}_y"), &row.y, axis, &lengths)? {
                    let product = call::matmul(&row.x, y);
                    let product = product.transpose_x(row.transpose_x).transpose_y(row.transpose_y);
                    parts.push(build.bind(&tile(parts.len()), product)?);
                }
                rank - 1
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![join(build, name, parts, result_axis)?]))
    };
    replace_ops(program, replace, |number| format!("what {} cut into tiles (R1, R2, R5)", gives(number)))
}

fn gives(number: usize) -> String {
    if number == 1 { "1 product gives".to_string() } else { format!("{number} products give") }
}

fn channel_tiles(site: Site<'_>, build: &mut FunctionBuilder, row: &Conv, limits: &Longest) -> Replacement {
    let Ok(convolution) = Convolution::of(row) else { return Ok(None) };
    let Some(w) = dims(&row.weight.ty) else { return Ok(None) };
    let too_many = limits.exceeded_at(&convolution.result.shape, 1)
        || w[0] as u64 >= MANY_CHANNELS && w[1] as u64 >= WIDE;
    let Ok(given) = usize::try_from(w[0]) else { return Ok(None) };
    let operands = [&row.x, &row.weight].into_iter().chain(&row.bias);
    if !too_many || convolution.groups != 1 || !alike(operands) {
        return Ok(None);
    }
    let (name, lengths) = (site.name(), tiles(given));
    let weights = cut(site, build, &format!("{name}_w"), &row.weight, 0, &lengths)?;
    let biases = match &row.bias {
        Some(bias) => {
            cut(site, build, &format!("{name}_b"), bias, 0, &lengths)?.into_iter().map(Some).collect()
        }
        None => vec![None; weights.len()],
    };
    let mut parts = Vec::with_capacity(lengths.len());
    for (weight, bias) in weights.into_iter().zip(biases) {
        let tile = format!("{name}_{}", parts.len());
        parts.push(build.bind(&tile, conv_with(row, weight, bias.map(Input::from)))?);
    }
    Ok(Some(vec![join(build, name, parts, 1)?]))
}
