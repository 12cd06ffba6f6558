//! Values of many axes: transposes and products of them with axes folded into one.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Matmul, Operand, Transpose, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::program::ValueId;
use anemone_mil::verify::{Verified, count};

use super::build::{Replacement, dims};
use super::limits::Longest;
use crate::chips::{Chip, Chips};

/// The highest rank of a value (R6).
const HIGHEST_RANK: usize = 5;
/// The highest rank of what is transposed or multiplied, on M5 (R45).
const HIGHEST_RANK_M5: usize = 4;

/// Folds the axes of transposes and products of values of too many (R6, R45). A transpose becomes swaps of
/// neighbouring blocks of axes, of rank 4; a product is of rank 3, or 4 where one operand is broadcast.
pub(super) fn folded_axes(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let most = if chips.and(Chip::M5.into()).is_empty() { HIGHEST_RANK } else { HIGHEST_RANK_M5 };
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        if let Some(row) = site.bound::<Transpose>().filter(|row| row.x.rank() > most) {
            return transposed(site, build, &row, &limits);
        }
        if let Some(row) = site.bound::<Matmul>() {
            let rank = row.x.rank().max(row.y.rank());
            return if rank > most { multiplied(site, build, &row, &limits) } else { Ok(None) };
        }
        Ok(None)
    };
    replace_ops(program, replace, |number| {
        format!("the axes of {} folded (R6, R45)", count(number, "op of high rank"))
    })
}

/// The product of lengths, if a tensor may be as long.
fn folded(lengths: &[i32], most: u64) -> Option<i32> {
    let product = lengths.iter().try_fold(1i32, |product, &length| product.checked_mul(length))?;
    u64::try_from(product).is_ok_and(|product| product <= most).then_some(product)
}

/// Two neighbouring blocks of axes that change places.
struct Swap {
    /// Dimensions: of what stands before, the blocks, and of what stands after.
    dims: [i32; 4],
}

/// The swaps that bring axes of these lengths into an order: at each place the longest run that belongs there is brought
/// forward. Axes of length 1 need not move. `None` where a block is too long.
fn swaps(lengths: &[i32], order: &[usize], limits: &Longest) -> Option<Vec<Swap>> {
    let moves = |&axis: &usize| lengths[axis] != 1;
    let wanted: Vec<usize> = order.iter().copied().filter(moves).collect();
    let mut now: Vec<usize> = (0..lengths.len()).filter(moves).collect();
    let mut swaps = Vec::new();
    for place in 0..wanted.len() {
        let from = now.iter().position(|&axis| axis == wanted[place])?;
        if from == place {
            continue;
        }
        let run = (from..now.len()).take_while(|&at| wanted.get(place + at - from) == Some(&now[at])).count();
        let length = |axes: &[usize], most| {
            folded(&axes.iter().map(|&axis| lengths[axis]).collect::<Vec<i32>>(), most)
        };
        let dims = [
            length(&now[..place], limits.any)?,
            length(&now[place..from], limits.spatial)?,
            length(&now[from..from + run], limits.spatial)?,
            length(&now[from + run..], limits.spatial)?,
        ];
        now[place..from + run].rotate_left(from - place);
        swaps.push(Swap { dims });
    }
    Some(swaps)
}

fn transposed(site: Site<'_>, build: &mut FunctionBuilder, row: &Transpose, limits: &Longest) -> Replacement {
    let (Some(lengths), Ok(order)) = (dims(&row.x.ty), row.permutation()) else { return Ok(None) };
    let Some(swaps) = swaps(&lengths, &order, limits) else { return Ok(None) };
    let (name, result) = (site.name(), order.iter().map(|&axis| lengths[axis]).collect::<Vec<i32>>());
    let mut value: Option<ValueId> = None;
    for Swap { dims } in swaps {
        let flat = match value {
            Some(value) => call::reshape(value, dims.to_vec()),
            None => call::reshape(&row.x, dims.to_vec()),
        };
        let flat = build.bind(&format!("{name}_flat"), flat)?;
        value = Some(build.bind(&format!("{name}_swapped"), call::transpose(flat, vec![0, 2, 1, 3]))?);
    }
    let last = match value {
        Some(value) => call::reshape(value, result),
        None => call::reshape(&row.x, result),
    };
    Ok(Some(vec![build.bind(name, last)?]))
}

/// The axes of a product before its last two, folded: for each operand and for the result.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    x: Vec<i32>,
    y: Vec<i32>,
}

/// Folds the batch axes of a product, where both operands are as long, or one is broadcast, in neighbouring axes.
fn batch(x: &[i32], y: &[i32], most: u64) -> Option<Batch> {
    let rank = x.len().max(y.len());
    let padded = |axes: &[i32]| -> Vec<i32> {
        std::iter::repeat_n(1, rank - axes.len()).chain(axes.iter().copied()).collect()
    };
    let mut batch = Batch::default();
    for (x, y) in padded(x).into_iter().zip(padded(y)).filter(|&lengths| lengths != (1, 1)) {
        match (batch.x.last_mut(), batch.y.last_mut()) {
            (Some(last_x), Some(last_y))
                if (*last_x == *last_y) == (x == y) && (*last_x == 1) == (x == 1) =>
            {
                *last_x = folded(&[*last_x, x], most)?;
                *last_y = folded(&[*last_y, y], most)?;
            }
            _ => {
                batch.x.push(folded(&[x], most)?);
                batch.y.push(folded(&[y], most)?);
            }
        }
    }
    (batch.x.len() <= HIGHEST_RANK_M5 - 2).then_some(batch)
}

fn multiplied(site: Site<'_>, build: &mut FunctionBuilder, row: &Matmul, limits: &Longest) -> Replacement {
    let (Some(x), Some(y), Some(result)) =
        (dims(&row.x.ty), dims(&row.y.ty), site.ty().and_then(|ty| dims(&ty)))
    else {
        return Ok(None);
    };
    if x.len() < 2 || y.len() < 2 {
        return Ok(None);
    }
    let ((x_batch, x_matrix), (y_batch, y_matrix)) = (x.split_at(x.len() - 2), y.split_at(y.len() - 2));
    let Some(batch) = batch(x_batch, y_batch, limits.any) else { return Ok(None) };
    let name = site.name();
    let mut flat = |which: &str, operand: &Operand, batch: &[i32], matrix: &[i32]| {
        let shape = [batch, matrix].concat();
        build.bind(&format!("{name}_{which}"), call::reshape(operand, shape))
    };
    let x = flat("x", &row.x, &batch.x, x_matrix)?;
    let y = flat("y", &row.y, &batch.y, y_matrix)?;
    let product = call::matmul(x, y).transpose_x(row.transpose_x).transpose_y(row.transpose_y);
    let product = build.bind(&format!("{name}_product"), product)?;
    Ok(Some(vec![build.bind(name, call::reshape(product, result))?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the elements are after swaps, and after a transpose.
    #[test]
    fn swaps_are_the_transpose() {
        let lengths = [2, 1, 3, 2, 2];
        let limits = Longest::of(Chips::ALL);
        let orders = [[4, 3, 2, 1, 0], [0, 2, 1, 4, 3], [1, 0, 2, 3, 4], [2, 4, 0, 1, 3], [0, 1, 2, 3, 4]];
        for order in orders {
            let swaps = swaps(&lengths, &order, &limits).expect("short blocks");
            let mut elements: Vec<usize> = (0..24).collect();
            for Swap { dims } in &swaps {
                let [outer, a, b, inner] = dims.map(|length| length as usize);
                let mut next = Vec::new();
                for outer in 0..outer {
                    for b_at in 0..b {
                        for a_at in 0..a {
                            let from = ((outer * a + a_at) * b + b_at) * inner;
                            next.extend_from_slice(&elements[from..from + inner]);
                        }
                    }
                }
                elements = next;
            }
            let strides = [12, 12, 4, 2, 1];
            let mut expected = vec![0];
            for &axis in &order {
                let steps = 0..lengths[axis] as usize;
                expected = expected
                    .iter()
                    .flat_map(|&at| steps.clone().map(move |step| at + step * strides[axis]))
                    .collect();
            }
            assert_eq!(elements, expected, "{order:?}");
        }
        assert_eq!(swaps(&lengths, &[0, 1, 2, 3, 4], &limits).map(|swaps| swaps.len()), Some(0));
    }

    #[test]
    fn batch_axes_are_folded_where_they_are_alike() {
        let most = 1 << 16;
        let two = |x: &[i32], y: &[i32]| Some(Batch { x: x.to_vec(), y: y.to_vec() });
        assert_eq!(batch(&[2, 3, 4], &[2, 3, 4], most), two(&[24], &[24]));
        assert_eq!(batch(&[2, 3, 4], &[2, 3, 1], most), two(&[6, 4], &[6, 1]));
        assert_eq!(batch(&[2, 1, 4], &[], most), two(&[8], &[1]));
        assert_eq!(batch(&[2, 1, 4], &[2, 3, 4], most), None);
        assert_eq!(batch(&[300, 300, 1], &[300, 300, 1], most), None);
    }
}
