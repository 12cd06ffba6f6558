//! What several passes build.

use anemone_mil::builder::{BuildError, Call, FunctionBuilder, Input};
use anemone_mil::ops::{self, Conv, Operand, call};
use anemone_mil::passes::{Site, Sites};
use anemone_mil::program::ValueId;
use anemone_mil::types::TensorType;

/// What stands for the results of an op, or `None` where it stays.
pub(super) type Replacement = Result<Option<Vec<ValueId>>, BuildError>;

/// The dimensions of a type, if all are known, as constants of programs have them.
pub(super) fn dims(ty: &TensorType) -> Option<Vec<i32>> {
    ty.shape.0.iter().map(|dim| i32::try_from(dim.known()?).ok()).collect()
}

/// An axis that may count from the end.
pub(super) fn position(axis: i32, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

/// An axis as ops write it.
pub(super) fn axis(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}

/// The values that an op's two operands are, where `scalar` accepts one of them: the other, and that one.
pub(super) fn either<'o>(
    x: &'o Operand,
    y: &'o Operand,
    accepts: impl Fn(&Operand) -> bool,
) -> Option<(&'o Operand, &'o Operand)> {
    match (accepts(x), accepts(y)) {
        (_, true) => Some((x, y)),
        (true, _) => Some((y, x)),
        _ => None,
    }
}

/// Whether operands are of one element type. From ios17 on a constant may be of another than what it is multiplied by, but
/// nothing that is made of it.
pub(super) fn alike<'o>(operands: impl IntoIterator<Item = &'o Operand>) -> bool {
    let mut dtypes = operands.into_iter().map(Operand::dtype);
    let first = dtypes.next();
    dtypes.all(|dtype| Some(dtype) == first)
}

/// Cuts a value along an axis into parts of these lengths, named after `base`. What was joined from such parts is not
/// cut again.
pub(super) fn cut(
    site: Site<'_>,
    build: &mut FunctionBuilder,
    base: &str,
    x: &Operand,
    along: usize,
    lengths: &[i32],
) -> Result<Vec<ValueId>, BuildError> {
    if let Some(parts) = x.id.and_then(|id| joined(site, id)).filter(|parts| parts.are(along, lengths)) {
        return Ok(parts.values);
    }
    let base = x.id.map_or(base, |id| &site.function().value(id).name);
    let names: Vec<String> = (0..lengths.len()).map(|index| format!("{base}_{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    build.bind_all(&names, call::split(x, axis(along)).split_sizes(lengths.to_vec()))
}

/// Values that were joined along an axis.
#[derive(Debug, Clone)]
pub(super) struct Joined {
    pub axis: usize,
    pub values: Vec<ValueId>,
    pub lengths: Vec<i32>,
}

impl Joined {
    /// Whether the parts are these.
    pub(super) fn are(&self, axis: usize, lengths: &[i32]) -> bool {
        self.axis == axis && self.lengths == lengths
    }
}

/// The parts that a value was joined from.
pub(super) fn joined(site: Site<'_>, value: ValueId) -> Option<Joined> {
    parts_of(site.giver(value)?)
}

/// The parts that a value of a function was joined from.
pub(super) fn joined_value(sites: &Sites<'_>, value: ValueId) -> Option<Joined> {
    parts_of(sites.giver(value)?)
}

/// What an op joins.
fn parts_of(site: Site<'_>) -> Option<Joined> {
    let row = site.bound::<ops::Concat>().filter(|row| !row.interleave)?;
    let axis = position(row.axis, row.values.first()?.rank())?;
    let values = row.values.iter().map(|part| part.id).collect::<Option<Vec<ValueId>>>()?;
    let lengths = row.values.iter().map(|part| i32::try_from(part.shape().0[axis].known()?).ok());
    Some(Joined { axis, values, lengths: lengths.collect::<Option<_>>()? })
}

/// Joins values along an axis.
pub(super) fn join(
    build: &mut FunctionBuilder,
    name: &str,
    values: Vec<ValueId>,
    along: usize,
) -> Result<ValueId, BuildError> {
    build.bind(name, call::concat(values, axis(along)).interleave(false))
}

/// Combines values by twos, so that no sum is longer than it must be; the last takes the name.
pub(super) fn combine(
    build: &mut FunctionBuilder,
    name: &str,
    mut values: Vec<ValueId>,
    mut two: impl FnMut(&mut FunctionBuilder, &str, ValueId, ValueId) -> Result<ValueId, BuildError>,
) -> Result<Option<ValueId>, BuildError> {
    let inner = format!("{name}_pair");
    while values.len() > 1 {
        let base = if values.len() == 2 { name } else { &inner };
        let mut next = Vec::with_capacity(values.len().div_ceil(2));
        for pair in values.chunks(2) {
            next.push(match *pair {
                [x, y] => two(build, base, x, y)?,
                _ => pair[0],
            });
        }
        values = next;
    }
    Ok(values.first().copied())
}

/// The sum of values.
pub(super) fn sum(
    build: &mut FunctionBuilder,
    name: &str,
    values: Vec<ValueId>,
) -> Result<Option<ValueId>, BuildError> {
    combine(build, name, values, |build, name, x, y| build.bind(name, call::add(x, y)))
}

/// A convolution as `row` has it, of another weight, and with another bias or none.
pub(super) fn conv_with(row: &Conv, weight: impl Into<Input>, bias: Option<Input>) -> Call<Conv> {
    let mut conv = call::conv(&row.x, weight).pad_type(row.pad_type.clone()).groups(row.groups);
    if let Some(strides) = &row.strides {
        conv = conv.strides(strides.clone());
    }
    if let Some(pad) = &row.pad {
        conv = conv.pad(pad.clone());
    }
    if let Some(dilations) = &row.dilations {
        conv = conv.dilations(dilations.clone());
    }
    match bias {
        Some(bias) => conv.bias(bias),
        None => conv,
    }
}
