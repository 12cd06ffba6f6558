//! Ops that write elements at indices.

use std::collections::HashMap;

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, room};
use crate::ops::copy::{self, Run};
use crate::ops::index::{IndexVectors, Indices};
use crate::ops::rules::{self, free};
use crate::ops::{Accuracy, INT32, NUMBER, OpError, Operand, movement};
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

mod gradient;

crate::ops! {
    /// `data` with the slices at `indices` along `axis` replaced by those of `updates`, or combined with them
    /// as `mode` says: update, add, sub, mul, div, max or min. Updates apply in their order. Before ios17 negative
    /// indices count from the end; from then on an index must not be negative, and with `validate_indices` one out of
    /// range is, where it is a constant, an error of the program.
    ///
    /// Without `mode` they add, as coremltools' code has it; its documentation says update.
    Scatter = scatter(data: Operand[T], indices: Operand[I], updates: Operand[T]; axis: i32 = 0,
        mode: String = "add", #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS17 where [T: NUMBER, I: INT32]
        { infer: |row| row.ty(), eval: Scatter::evaluate, accuracy: Accuracy::Sum(1); vjp: gradient::scatter; flops: free; [by_opset] }

    /// As `scatter`, element by element: for each place of `indices`, the element of `data` there whose coordinate along
    /// `axis` is the index is combined with the element of `updates` at the place.
    ScatterAlongAxis = scatter_along_axis(data: Operand[T], indices: Operand[I], updates: Operand[T]; axis: i32 = 0,
        mode: String = "add", #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS17 where [T: NUMBER, I: INT32]
        { infer: |row| row.ty(), eval: ScatterAlongAxis::evaluate, accuracy: Accuracy::Sum(1); vjp: gradient::along_axis; flops: free; [by_opset] }

    /// As `scatter`, for slices that vectors name: each vector along the last dimension of `indices` holds the coordinates
    /// of a slice of `data` in its first dimensions.
    ScatterNd = scatter_nd(data: Operand[T], indices: Operand[I], updates: Operand[T];
        mode: String = "add", #[since = IOS17] validate_indices: bool = false)
        since IOS15 where [T: NUMBER, I: INT32]
        since IOS17 where [T: NUMBER, I: INT32]
        { infer: |row| row.ty(), eval: ScatterNd::evaluate, accuracy: Accuracy::Sum(1); vjp: gradient::nd; flops: free; [by_opset] }
}

/// How an update combines with the element that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Mode {
    fn named(name: &str) -> Result<Mode, OpError> {
        Ok(match name {
            "update" => Mode::Update,
            "add" => Mode::Add,
            "sub" => Mode::Sub,
            "mul" => Mode::Mul,
            "div" => Mode::Div,
            "max" => Mode::Max,
            "min" => Mode::Min,
            other => {
                return Err(OpError::rule("mode", "must be update, add, sub, mul, div, max or min")
                    .found(format!("found \"{other}\"")));
            }
        })
    }

    /// A NaN on either side stays.
    fn floats(self, old: f64, update: f64) -> f64 {
        match self {
            Mode::Update => update,
            Mode::Add => old + update,
            Mode::Sub => old - update,
            Mode::Mul => old * update,
            Mode::Div => old / update,
            Mode::Max if old > update || old.is_nan() => old,
            Mode::Min if old < update || old.is_nan() => old,
            Mode::Max | Mode::Min => update,
        }
    }

    /// Integers wrap; quotients are rounded toward zero.
    fn integers(self, old: i64, update: i64) -> Result<i64, OpError> {
        Ok(match self {
            Mode::Update => update,
            Mode::Add => old.wrapping_add(update),
            Mode::Sub => old.wrapping_sub(update),
            Mode::Mul => old.wrapping_mul(update),
            Mode::Div if update == 0 => {
                return Err(OpError::rule("updates", "an integer is divided by zero"));
            }
            Mode::Div => old.wrapping_div(update),
            Mode::Max => old.max(update),
            Mode::Min => old.min(update),
        })
    }
}

/// Slices of `data` that updates change.
struct Update<'a> {
    data: &'a Operand,
    updates: &'a Operand,
    mode: &'a str,
    /// Where the slice of each update begins.
    starts: Vec<usize>,
    /// The length of all slices.
    length: usize,
}

impl Update<'_> {
    /// `data` with every update applied. Elements that no update meets keep their bits.
    fn apply(&self, evaluation: &Evaluation) -> Result<Vec<Tensor>, OpError> {
        let (data, updates) = (self.data.tensor()?, self.updates.tensor()?);
        let mode = Mode::named(self.mode)?;
        if mode == Mode::Update {
            let runs = self.starts.iter().map(|&start| Run::of(start, self.length));
            return Ok(vec![copy::replaced(data, updates, runs)?]);
        }
        // Only the slices that are met are widened; each has one number, however often it is met.
        let mut numbers = HashMap::new();
        let mut met = Vec::new();
        let number = |start: usize| {
            *numbers.entry(start).or_insert_with(|| {
                met.push(start);
                met.len() - 1
            })
        };
        let at: Vec<usize> = self.starts.iter().copied().map(number).collect();
        let runs = || met.iter().map(|&start| Run::of(start, self.length));
        let dims = [met.len() * self.length];
        let mut combined = Numbers::of(&copy::read(&[data], &dims, runs())?)?;
        let slices = at.iter().flat_map(|number| number * self.length..(number + 1) * self.length);
        match (&mut combined, self.updates.numbers()?) {
            (Numbers::Float(old), Numbers::Float(updates)) => {
                for (place, update) in slices.zip(updates) {
                    old[place] = mode.floats(old[place], update);
                }
            }
            (Numbers::Integer(old), Numbers::Integer(updates)) => {
                for (place, update) in slices.zip(updates) {
                    old[place] = mode.integers(old[place], update)?;
                }
            }
            _ => {
                let message = "must have the type of `data`";
                return Err(OpError::new(ErrorKind::ElementType, Some("updates"), message));
            }
        }
        let combined = evaluation.tensor(self.data.dtype(), &dims, combined)?;
        Ok(vec![copy::replaced(data, &combined, runs())?])
    }
}

/// The type of `data`, unless `updates` are not of the shape that indices and `data` ask for.
fn updated_type(
    data: &Operand,
    updates: &Operand,
    wanted: &Shape,
    mode: &str,
) -> Result<Vec<TensorType>, OpError> {
    Mode::named(mode)?;
    if !updates.shape().agrees_with(wanted) {
        return Err(OpError::rule("updates", format!("must have the shape {wanted}"))
            .found(format!("found {}", updates.shape())));
    }
    movement::result("data", data.dtype(), data.shape().0.clone())
}

impl Scatter {
    fn indices(&self) -> Indices<'_> {
        Indices::new(&self.indices, self.since, self.validate_indices)
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let axis = rules::axis("axis", self.axis, self.data.rank())?;
        if self.indices.rank() != 1 {
            return Err(
                OpError::rule("indices", "must be a vector").found(format!("found {}", self.indices.ty))
            );
        }
        let mut wanted = self.data.shape().clone();
        wanted.0[axis] = self.indices.shape().0[0];
        let ty = updated_type(&self.data, &self.updates, &wanted, &self.mode)?;
        self.indices().check(self.data.shape().0[axis])?;
        Ok(ty)
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = self.data.dims()?;
        let axis = rules::axis("axis", self.axis, dims.len())?;
        let at = self.indices().positions(dims[axis])?;
        let length = dims[axis + 1..].iter().product();
        let outer: usize = dims[..axis].iter().product();
        let mut starts = room(outer.saturating_mul(at.len()))?;
        for outer in 0..outer {
            starts.extend(at.iter().map(|index| (outer * dims[axis] + index) * length));
        }
        Update { data: &self.data, updates: &self.updates, mode: &self.mode, starts, length }
            .apply(evaluation)
    }
}

impl ScatterAlongAxis {
    fn indices(&self) -> Indices<'_> {
        Indices::new(&self.indices, self.since, self.validate_indices)
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let (data, indices) = (self.data.shape(), self.indices.shape());
        let axis = rules::axis("axis", self.axis, data.rank())?;
        let agree = |i: usize| i == axis || data.0[i].agrees_with(indices.0[i]);
        if data.rank() != indices.rank() || !(0..data.rank()).all(agree) {
            let message = format!("must agree with `data`, {data}, but along axis {axis}");
            return Err(OpError::rule("indices", message).found(format!("found {indices}")));
        }
        let ty = updated_type(&self.data, &self.updates, indices, &self.mode)?;
        self.indices().check(data.0[axis])?;
        Ok(ty)
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = self.data.dims()?;
        let axis = rules::axis("axis", self.axis, dims.len())?;
        let starts = self.indices().along(axis, dims[axis], self.indices.dims()?)?;
        Update { data: &self.data, updates: &self.updates, mode: &self.mode, starts, length: 1 }
            .apply(evaluation)
    }
}

impl ScatterNd {
    fn vectors(&self) -> IndexVectors<'_> {
        let indices = Indices::new(&self.indices, self.since, self.validate_indices);
        IndexVectors { indices, batch: 0 }
    }

    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let wanted = Shape(self.vectors().slices(&self.data)?);
        updated_type(&self.data, &self.updates, &wanted, &self.mode)
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let (starts, length) = self.vectors().starts(self.data.dims()?)?;
        Update { data: &self.data, updates: &self.updates, mode: &self.mode, starts, length }
            .apply(evaluation)
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::tensor::Tensor;
    use crate::types::Opset;

    fn scattered<'a>(data: Given, indices: Given, updates: Given, mode: &str) -> Vec<(&'a str, Given)> {
        vec![("data", data), ("indices", indices), ("updates", updates), ("mode", text(mode))]
    }

    #[test]
    fn updates_apply_in_their_order() {
        let run = |mode| {
            let given = scattered(ints(&[100, 7, -9]), ints(&[2, 0, -1]), ints(&[4, 3, -2]), mode);
            eval_ints("scatter", Opset::IOS15, &given).1
        };
        assert_eq!(run("update"), [3, 7, -2]);
        assert_eq!(run("add"), [103, 7, -7]);
        assert_eq!(run("sub"), [97, 7, -11]);
        assert_eq!(run("mul"), [300, 7, 72]);
        assert_eq!(run("div"), [33, 7, 1]);
        assert_eq!(run("max"), [100, 7, 4]);
        assert_eq!(run("min"), [3, 7, -9]);
    }

    #[test]
    fn scatter_reads_updates_as_data_lies() {
        let updates = constant(Tensor::from_values(&[2, 2], vec![10, 20, 30, 40]).unwrap());
        let mut given = scattered(counting(&[2, 3]), ints(&[2, 0]), updates, "update");
        given.push(("axis", int(-1)));
        assert_eq!(eval_ints("scatter", Opset::IOS17, &given), (vec![2, 3], vec![20, 1, 10, 40, 4, 30]));
        // The docstring's example in coremltools.
        let of = |values: Vec<i32>| constant(Tensor::from_values(&[2, 3], values).unwrap());
        let (data, updates) = (of(vec![1, 2, 3, 4, 5, 6]), of(vec![5, 6, 7, 8, 9, 10]));
        let given = scattered(data, ints(&[1, 0]), updates, "add");
        assert_eq!(eval_ints("scatter", Opset::IOS15, &given).1, [9, 11, 13, 9, 11, 13]);
    }

    #[test]
    fn scatter_leaves_the_bits_of_other_elements() {
        let of = |bits: &[u16]| constant(Tensor::vector(bits.iter().map(|&b| f16::from_bits(b)).collect()));
        for mode in ["update", "add"] {
            let given = scattered(of(&[0xfc01, 0x8000, 0x3c00]), ints(&[2]), of(&[0x7e03]), mode);
            let tensor = eval("scatter", Opset::IOS17, &given).unwrap();
            let found: Vec<u16> = tensor.as_slice::<f16>().unwrap().iter().map(|v| v.to_bits()).collect();
            assert_eq!(found[..2], [0xfc01, 0x8000]);
            assert!(f16::from_bits(found[2]).is_nan());
            assert!(mode == "add" || found[2] == 0x7e03);
        }
    }

    #[test]
    fn hostile_scatters_are_refused() {
        let refuse = |opset, indices: &[i32], updates: &[i32], mode| {
            let given = scattered(ints(&[1, 2]), ints(indices), ints(updates), mode);
            refusal("scatter", opset, &given)
        };
        for index in [2, -3, i32::MIN, i32::MAX] {
            assert!(refuse(Opset::IOS15, &[index], &[0], "add").contains("out of range"));
        }
        assert!(refuse(Opset::IOS17, &[-1], &[0], "add").contains("since ios17"));
        assert!(refuse(Opset::IOS17, &[0], &[0], "div").contains("divided by zero"));
        assert!(refuse(Opset::IOS17, &[0], &[0], "set").contains("found \"set\""));
        assert!(refuse(Opset::IOS17, &[0], &[0, 1], "add").contains("must have the shape [1]"));
        let scalar = scattered(ints(&[1]), int(0), int(0), "add");
        assert!(refusal("scatter", Opset::IOS15, &scalar).contains("must be a vector"));
        let wrapping = scattered(ints(&[i32::MIN]), ints(&[0, 0]), ints(&[i32::MIN, -1]), "mul");
        assert_eq!(eval_ints("scatter", Opset::IOS15, &wrapping).1, [0]);
    }
}
