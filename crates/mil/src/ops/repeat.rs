//! Ops that repeat elements, or put others around them.

use crate::eval::Evaluation;
use crate::ops::copy::{self, Moved, Run};
use crate::ops::rules::{free, known_dims, strides};
use crate::ops::{ANY, Accuracy, Constant, FLOAT, INT32, OpError, Operand, movement};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType};

mod gradient;

crate::ops! {
    /// `x` with dimension `i` repeated `reps[i]` times.
    Tile = tile(x: Operand[T], reps: Operand[U]) since IOS15 where [T: ANY, U: INT32]
        { infer: tile_type, eval: tile, accuracy: Accuracy::Exact; vjp: gradient::tile; flops: free }

    /// `x` with elements added at both ends of its last dimensions: `pad` holds, for each of them in order,
    /// how many before and how many after. They are `constant_val` (0), or with the mode `reflect` the
    /// elements across the first or last one, or with `replicate` that one. A `pad` that is not a constant
    /// has entries for every dimension.
    Pad = pad(x: Operand[T], pad: Operand[U]; mode: String = "constant", constant_val: Option<Constant>[T]) since IOS15 where [T: FLOAT, U: INT32]
        { infer: pad_type, eval: pad, accuracy: Accuracy::Exact; vjp: gradient::pad; flops: free }
}

fn tile_type(row: &Tile) -> Result<Vec<TensorType>, OpError> {
    let x = &row.x;
    if x.rank() == 0 {
        return Err(OpError::rule("x", "a scalar has no dimension to repeat"));
    }
    let Some(reps) = movement::integers("reps", &row.reps, Some(x.rank()))? else {
        return movement::unknown_result("x", x.dtype(), x.rank() as u64);
    };
    let repeat = |(&dim, &times): (&Dim, &i64)| match u64::try_from(times) {
        Err(_) | Ok(0) => {
            Err(OpError::rule("reps", "must be at least 1 everywhere").found(format!("found {reps:?}")))
        }
        Ok(times) => match dim {
            Dim::Known(length) => length.checked_mul(times).map(Dim::Known).ok_or_else(too_long("reps")),
            Dim::Unknown => Ok(Dim::Unknown),
        },
    };
    let dims = x.shape().0.iter().zip(&reps).map(repeat).collect::<Result<_, _>>()?;
    movement::result("reps", x.dtype(), dims)
}

fn too_long(parameter: &'static str) -> impl Fn() -> OpError {
    move || OpError::rule(parameter, "a dimension of the result is too long")
}

fn tile(row: &Tile, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(tile_type(row))?;
    let x = row.x.tensor()?;
    if dims.contains(&0) {
        return Ok(vec![copy::read(&[x], &dims, std::iter::empty())?]);
    }
    Ok(vec![row.moved()?.read(x, &dims)?])
}

impl Tile {
    /// The elements in the result's order, of an `x` whose dimensions and numbers of repeats are known, and not 0.
    ///
    /// # Errors
    ///
    /// When `reps` does not fit `x`.
    pub fn moved(&self) -> Result<Moved, OpError> {
        let (old, new) = (known_dims(self.x.shape())?, movement::dims(tile_type(self))?);
        // Each dimension is walked as two: how often, and what is repeated.
        let mut moved = Moved { start: 0, dims: Vec::new(), steps: Vec::new() };
        for ((&old, &new), stride) in old.iter().zip(&new).zip(strides(&old)) {
            moved.dims.extend([new.checked_div(old).unwrap_or(0), old]);
            moved.steps.extend([0, stride as isize]);
        }
        Ok(moved)
    }
}

/// What `pad` adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Constant,
    Reflect,
    Replicate,
}

impl Padding {
    fn named(mode: &str) -> Result<Padding, OpError> {
        match mode {
            "constant" => Ok(Padding::Constant),
            "reflect" => Ok(Padding::Reflect),
            "replicate" => Ok(Padding::Replicate),
            other => Err(OpError::rule("mode", "must be constant, reflect or replicate")
                .found(format!("found \"{other}\""))),
        }
    }

    /// The most elements that can be added to one end of a dimension.
    fn most(self, length: u64) -> u64 {
        match self {
            Padding::Constant => u64::MAX,
            Padding::Reflect => length.saturating_sub(1),
            Padding::Replicate => length,
        }
    }

    /// The coordinate that the element at a place of a padded dimension comes from; `None` where it is a constant.
    fn source(self, length: usize, before: usize, place: usize) -> Option<usize> {
        match place.checked_sub(before) {
            Some(at) if at < length => Some(at),
            _ if self == Padding::Constant => None,
            Some(_) if self == Padding::Replicate => Some(length - 1),
            Some(at) => Some(2 * (length - 1) - at),
            None if self == Padding::Replicate => Some(0),
            None => Some(before - place),
        }
    }

    /// What one row of a padded tensor is copied from: before the row at `start`, the row itself, and after it.
    fn row(self, start: usize, length: usize, before: usize, after: usize) -> [Run; 3] {
        let last = start + length - 1;
        let [first, past] = match self {
            Padding::Constant => [added(before), added(after)],
            Padding::Replicate => [Run::repeated(start, before), Run::repeated(last, after)],
            Padding::Reflect => [
                Run { step: -1, ..Run::of(start + before, before) },
                Run { step: -1, ..Run::of(last.saturating_sub(1), after) },
            ],
        };
        [first, Run::of(start, length), past]
    }
}

/// The constant that is added, so many times; it is the second of what is copied from.
fn added(times: usize) -> Run {
    Run { source: 1, ..Run::repeated(0, times) }
}

/// How many elements are added before and after each dimension; `None` while that is not known.
fn amounts(row: &Pad) -> Result<Option<Vec<(u64, u64)>>, OpError> {
    let rank = row.x.rank();
    let length = (!row.pad.constant).then_some(2 * rank);
    let Some(given) = movement::integers("pad", &row.pad, length)? else { return Ok(None) };
    if given.len() % 2 != 0 || given.len() > 2 * rank {
        return Err(OpError::rule("pad", format!("must hold pairs, for at most {rank} dimensions"))
            .found(format!("found {} entries", given.len())));
    }
    let known: Option<Vec<u64>> = given.iter().map(|&entry| u64::try_from(entry).ok()).collect();
    let Some(known) = known else {
        return Err(OpError::rule("pad", "must not be negative").found(format!("found {given:?}")));
    };
    let mut all = vec![(0, 0); rank - known.len() / 2];
    all.extend(known.chunks_exact(2).map(|pair| (pair[0], pair[1])));
    Ok(Some(all))
}

fn pad_type(row: &Pad) -> Result<Vec<TensorType>, OpError> {
    let padding = Padding::named(&row.mode)?;
    movement::check_rank("x", row.x.rank())?;
    if let Some(value) = &row.constant_val {
        movement::check_scalar("constant_val", value)?;
    }
    let Some(amounts) = amounts(row)? else {
        return movement::unknown_result("x", row.x.dtype(), row.x.rank() as u64);
    };
    let padded = |(i, (&dim, &(before, after))): (usize, (&Dim, &(u64, u64)))| match dim {
        Dim::Known(length) if before.max(after) > padding.most(length) => {
            let most = padding.most(length);
            let message = format!("\"{}\" adds at most {most} to each end of dimension {i}", row.mode);
            Err(OpError::rule("pad", message).found(format!("found {before} and {after}")))
        }
        Dim::Known(length) => {
            let sum = length.checked_add(before).and_then(|sum| sum.checked_add(after));
            sum.map(Dim::Known).ok_or_else(too_long("pad"))
        }
        Dim::Unknown => Ok(Dim::Unknown),
    };
    let dims = row.x.shape().0.iter().zip(&amounts).enumerate().map(padded).collect::<Result<_, _>>()?;
    movement::result("pad", row.x.dtype(), dims)
}

fn pad(row: &Pad, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(pad_type(row))?;
    let x = row.x.tensor()?;
    if dims.contains(&0) {
        return Ok(vec![copy::read(&[x], &dims, std::iter::empty())?]);
    }
    let zero = Tensor::zeros(x.dtype(), &[]);
    let value = match (&row.constant_val, &zero) {
        (Some(value), _) => value.tensor()?.as_ref(),
        (None, Some(zero)) => zero,
        (None, None) => return Err(OpError::rule("constant_val", "a zero does not fit in memory")),
    };
    let padded = Padded::of(row)?;
    let runs = (0..padded.rows).flat_map(|number| padded.row(number));
    Ok(vec![copy::read(&[x, value], &dims, runs)?])
}

/// How the rows of a padded tensor are copied.
#[derive(Debug, Clone)]
pub struct Padded {
    padding: Padding,
    /// For each dimension before those that are a row: its length in the result, what is added before it, its own
    /// length, and how far its elements are apart.
    outer: Vec<[usize; 4]>,
    /// What is added to a row before and after it, and its own length.
    before: usize,
    after: usize,
    length: usize,
    /// How many rows there are.
    pub rows: usize,
}

impl Padded {
    /// What an op asks for whose `x` has known dimensions and whose result has elements.
    ///
    /// # Errors
    ///
    /// When the parameters do not fit `x`.
    pub fn of(row: &Pad) -> Result<Padded, OpError> {
        let (from, dims) = (known_dims(row.x.shape())?, movement::dims(pad_type(row))?);
        let padding = Padding::named(&row.mode)?;
        let mut amounts = amounts(row)?.unwrap_or_default();
        // What is walked as rows ends with the last dimension that anything is added to.
        let (mut rank, mut inner) = (amounts.len(), 1);
        while rank > 1 && amounts[rank - 1] == (0, 0) && (padding == Padding::Constant || from[rank - 1] == 1)
        {
            rank -= 1;
            inner *= from[rank];
        }
        amounts.truncate(rank);
        let Some((before, after)) = amounts.pop() else {
            return Ok(Padded { padding, outer: Vec::new(), before: 0, after: 0, length: 1, rows: 1 });
        };
        let own = strides(&from);
        let outer = amounts.iter().enumerate();
        let outer: Vec<_> =
            outer.map(|(i, &(before, _))| [dims[i], before as usize, from[i], own[i]]).collect();
        let (before, after) = (before as usize * inner, after as usize * inner);
        let length = from[outer.len()] * inner;
        let rows = dims[..outer.len()].iter().product();
        Ok(Padded { padding, outer, before, after, length, rows })
    }

    /// The elements of a row of the result.
    pub fn elements(&self) -> usize {
        self.before + self.length + self.after
    }

    /// What a row of the result is copied from: `x`, or, as the second source, the constant.
    pub fn row(&self, number: usize) -> [Run; 3] {
        let (mut rest, mut start) = (number, Some(0));
        for &[to, before, from, step] in self.outer.iter().rev() {
            let source = self.padding.source(from, before, rest % to);
            start = start.zip(source).map(|(start, at)| start + at * step);
            rest /= to;
        }
        match start {
            Some(start) if self.length > 0 => self.padding.row(start, self.length, self.before, self.after),
            _ => [added(self.before), added(self.length), added(self.after)],
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::tensor::Tensor;
    use crate::types::{DType, Opset};

    fn tiled(x: Given, reps: &[i32]) -> [(&'static str, Given); 2] {
        [("x", x), ("reps", ints(reps))]
    }

    #[test]
    fn tile_repeats_whole_dimensions() {
        // numpy.tile(numpy.arange(4).reshape(2, 2), [2, 2])
        assert_eq!(
            eval_ints("tile", Opset::IOS15, &tiled(counting(&[2, 2]), &[2, 2])),
            (vec![4, 4], vec![0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3])
        );
        assert_eq!(eval_ints("tile", Opset::IOS15, &tiled(counting(&[0, 2]), &[1 << 30, 1])).0, [0, 2]);
        let unknown = infer("tile", Opset::IOS15, &tiled(typed(DType::Fp16, &[-1, 3]), &[2, 2]));
        assert_eq!(unknown.unwrap(), "[?, 6]");
        let later = [("x", counting(&[2, 2])), ("reps", typed(DType::Int32, &[2]))];
        assert_eq!(infer("tile", Opset::IOS15, &later).unwrap(), "[?, ?]");
    }

    #[test]
    fn hostile_tiles_are_refused() {
        let refuse = |x, reps: &[i32]| refusal("tile", Opset::IOS15, &tiled(x, reps));
        assert!(refuse(counting(&[2]), &[0]).contains("at least 1"));
        assert!(refuse(counting(&[2]), &[i32::MIN]).contains("at least 1"));
        assert!(refuse(counting(&[2]), &[1, 1]).contains("must hold 1 entry"));
        assert!(refuse(int(1), &[]).contains("scalar"));
        assert!(refuse(counting(&[2, 2]), &[i32::MAX, i32::MAX]).contains("too large"));
        assert!(refuse(typed(DType::Fp16, &[i64::MAX]), &[i32::MAX]).contains("too long"));
        // Large, but not absurd: the budget refuses it before anything is allocated.
        assert!(refuse(counting(&[2]), &[i32::MAX]).contains("budget"));
    }

    fn halves(values: &[f64]) -> Given {
        constant(Tensor::vector(values.iter().map(|&v| f16::from_f64(v)).collect()))
    }

    fn padded(x: Given, pad: &[i32], mode: &str) -> Vec<(&'static str, Given)> {
        vec![("x", x), ("pad", ints(pad)), ("mode", text(mode))]
    }

    #[test]
    fn pad_adds_at_both_ends() {
        let run = |pad: &[i32], mode| {
            let tensor = eval("pad", Opset::IOS15, &padded(halves(&[1.0, 2.0, 3.0]), pad, mode)).unwrap();
            tensor.to_f64().unwrap()
        };
        // Each as numpy.pad, whose mode "edge" is replicate.
        assert_eq!(run(&[2, 1], "constant"), [0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
        assert_eq!(run(&[2, 2], "reflect"), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]);
        assert_eq!(run(&[3, 1], "replicate"), [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
        assert_eq!(run(&[], "reflect"), [1.0, 2.0, 3.0]);
        let empty = eval("pad", Opset::IOS15, &padded(halves(&[]), &[1, 1], "constant")).unwrap();
        assert_eq!(empty.to_f64().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn pad_keeps_the_bits_of_what_it_adds() {
        let mut given = padded(halves(&[1.0]), &[0, 1], "constant");
        given.push(("constant_val", constant(Tensor::scalar(f16::from_bits(0xfe05)))));
        let tensor = eval("pad", Opset::IOS15, &given).unwrap();
        assert_eq!(tensor.as_slice::<f16>().unwrap()[1].to_bits(), 0xfe05);
    }

    #[test]
    fn pad_infers_what_is_known() {
        let x = || typed(DType::Fp16, &[-1, 3, 4]);
        let last_two = padded(x(), &[1, 1, 0, 2], "constant");
        assert_eq!(infer("pad", Opset::IOS15, &last_two).unwrap(), "[?, 5, 6]");
        let later = |length| [("x", x()), ("pad", typed(DType::Int32, &[length]))];
        assert_eq!(infer("pad", Opset::IOS15, &later(6)).unwrap(), "[?, ?, ?]");
        assert!(infer("pad", Opset::IOS15, &later(4)).is_err());
    }

    #[test]
    fn hostile_pads_are_refused() {
        let refuse =
            |pad: &[i32], mode| refusal("pad", Opset::IOS15, &padded(halves(&[1.0, 2.0, 3.0]), pad, mode));
        assert!(refuse(&[-1, 0], "constant").contains("must not be negative"));
        assert!(refuse(&[i32::MIN, 0], "reflect").contains("must not be negative"));
        assert!(refuse(&[1], "constant").contains("found 1 entries"));
        assert!(refuse(&[1; 4], "constant").contains("at most 1 dimensions"));
        assert!(refuse(&[0, 3], "reflect").contains("adds at most 2"));
        assert!(refuse(&[4, 0], "replicate").contains("adds at most 3"));
        assert!(refuse(&[0, 0], "edge").contains("found \"edge\""));
        assert!(refuse(&[i32::MAX, i32::MAX], "constant").contains("budget"));
        let empty = refusal("pad", Opset::IOS15, &padded(halves(&[]), &[1, 0], "replicate"));
        assert!(empty.contains("adds at most 0"));
        let huge = padded(typed(DType::Fp16, &[i64::MAX]), &[i32::MAX, 0], "constant");
        assert!(infer("pad", Opset::IOS15, &huge).is_err());
    }
}
