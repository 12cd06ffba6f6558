//! Ops that write elements at indices.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers};
use crate::ops::gather::Indices;
use crate::ops::rules::{self, free, lay_end_to_end, take};
use crate::ops::{ANY, Accuracy, Constant, INT32, NUMBER, OpError, Operand, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

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
        { infer: |row| row.scattering().ty(), eval: |row, evaluation| row.scattering().evaluate(evaluation),
          accuracy: Accuracy::Sum(1); flops: free }

    /// For each index a vector along a new dimension at `axis` of the result, which holds `on_value` (1) at
    /// the index and `off_value` (0) elsewhere; everywhere, where the index is out of range.
    OneHot = one_hot(indices: Operand[I], one_hot_vector_size: Operand[S]; axis: i32 = -1,
        on_value: Option<Constant>[T], off_value: Option<Constant>[T])
        since IOS15 where [I: INT32, S: INT32, T: ANY]
        { infer: one_hot_type, eval: one_hot, accuracy: Accuracy::Exact; flops: free }
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

/// What a `scatter` asks for.
struct Scattering<'a> {
    data: &'a Operand,
    indices: Indices<'a>,
    updates: &'a Operand,
    axis: i32,
    mode: &'a str,
}

impl Scatter {
    fn scattering(&self) -> Scattering<'_> {
        let indices = Indices::new(&self.indices, self.since, self.validate_indices);
        Scattering { data: &self.data, indices, updates: &self.updates, axis: self.axis, mode: &self.mode }
    }
}

impl Scattering<'_> {
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        Mode::named(self.mode)?;
        let axis = rules::axis("axis", self.axis, self.data.rank())?;
        let indices = self.indices.operand;
        if indices.rank() != 1 {
            return Err(OpError::rule("indices", "must be a vector").found(format!("found {}", indices.ty)));
        }
        let mut wanted = self.data.shape().clone();
        wanted.0[axis] = indices.shape().0[0];
        if !self.updates.shape().agrees_with(&wanted) {
            return Err(OpError::rule("updates", format!("must have the shape {wanted}"))
                .found(format!("found {}", self.updates.shape())));
        }
        self.indices.check(self.data.shape().0[axis])?;
        movement::result("data", self.data.dtype(), self.data.shape().0.clone())
    }

    /// For each element of `updates`, the position in `data` that it applies to.
    fn targets(&self) -> Result<Vec<usize>, OpError> {
        let dims = self.data.dims()?;
        let axis = rules::axis("axis", self.axis, dims.len())?;
        let at = self.indices.positions(dims[axis])?;
        let inner: usize = dims[axis + 1..].iter().product();
        let target = |i: usize| {
            let (outer, number) = (i / inner / at.len(), i / inner % at.len());
            (outer * dims[axis] + at[number]) * inner + i % inner
        };
        Ok((0..self.updates.tensor()?.len()).map(target).collect())
    }

    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = movement::dims(self.ty())?;
        let mode = Mode::named(self.mode)?;
        let targets = self.targets()?;
        let data = self.data.tensor()?;
        // Elements that no update meets keep their bits; what takes the place of others stands behind them.
        let mut order: Vec<usize> = (0..data.len()).collect();
        let laid = if mode == Mode::Update {
            targets.iter().enumerate().for_each(|(i, &target)| order[target] = data.len() + i);
            lay_end_to_end(&[data, self.updates.tensor()?])?
        } else {
            targets.iter().for_each(|&target| order[target] = data.len() + target);
            lay_end_to_end(&[
                data,
                &evaluation.tensor(self.data.dtype(), &dims, self.combined(mode, &targets)?)?,
            ])?
        };
        Ok(vec![take(&laid, &dims, &order)?])
    }

    /// `data` with every update applied.
    fn combined(&self, mode: Mode, targets: &[usize]) -> Result<Numbers, OpError> {
        match (self.data.numbers()?, self.updates.numbers()?) {
            (Numbers::Float(mut data), Numbers::Float(updates)) => {
                for (&target, update) in targets.iter().zip(updates) {
                    data[target] = mode.floats(data[target], update);
                }
                Ok(Numbers::Float(data))
            }
            (Numbers::Integer(mut data), Numbers::Integer(updates)) => {
                for (&target, update) in targets.iter().zip(updates) {
                    data[target] = mode.integers(data[target], update)?;
                }
                Ok(Numbers::Integer(data))
            }
            _ => Err(OpError::new(ErrorKind::ElementType, Some("updates"), "must have the type of `data`")),
        }
    }
}

fn one_hot_type(row: &OneHot) -> Result<Vec<TensorType>, OpError> {
    movement::check_scalar("one_hot_vector_size", &row.one_hot_vector_size)?;
    for (name, value) in [("on_value", &row.on_value), ("off_value", &row.off_value)] {
        if let Some(value) = value {
            movement::check_scalar(name, value)?;
        }
    }
    let size = match row.one_hot_vector_size.known_integers().as_deref() {
        Some([size]) => Dim::Known(u64::try_from(*size).map_err(|_| {
            OpError::rule("one_hot_vector_size", "must not be negative").found(format!("found {size}"))
        })?),
        _ => Dim::Unknown,
    };
    movement::check_rank("indices", row.indices.rank())?;
    let mut dims = row.indices.shape().0.clone();
    dims.insert(rules::axis("axis", row.axis, dims.len() + 1)?, size);
    let given = row.on_value.as_ref().or(row.off_value.as_ref());
    movement::result("one_hot_vector_size", given.map_or(DType::Int32, |value| value.dtype()), dims)
}

fn one_hot(row: &OneHot, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let ty = one_hot_type(row)?.remove(0);
    let dims = rules::known_dims(&ty.shape)?;
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let value = |given: &Option<Constant>, default: i64| match given {
        Some(value) => Ok(value.tensor()?.as_ref().clone()),
        None if ty.dtype.is_float() => evaluation.tensor(ty.dtype, &[], Numbers::Float(vec![default as f64])),
        None => evaluation.tensor(ty.dtype, &[], Numbers::Integer(vec![default])),
    };
    let values = lay_end_to_end(&[&value(&row.off_value, 0)?, &value(&row.on_value, 1)?])?;
    let inner: usize = dims[axis + 1..].iter().product();
    let mut order = vec![0; dims.iter().product()];
    for (i, index) in row.indices.integers()?.into_iter().enumerate() {
        if let Some(index) = usize::try_from(index).ok().filter(|&index| index < dims[axis]) {
            order[(i / inner * dims[axis] + index) * inner + i % inner] = 1;
        }
    }
    Ok(vec![take(&values, &dims, &order)?])
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::tensor::Tensor;
    use crate::types::{DType, Opset};

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

    #[test]
    fn one_hot_puts_the_new_dimension_anywhere() {
        let given =
            |axis| [("indices", ints(&[1, 0, 5, -1])), ("one_hot_vector_size", int(2)), ("axis", int(axis))];
        let last = eval_ints("one_hot", Opset::IOS15, &given(-1));
        assert_eq!(last, (vec![4, 2], vec![0, 1, 1, 0, 0, 0, 0, 0]));
        assert_eq!(eval_ints("one_hot", Opset::IOS15, &given(1)), last);
        let first = eval_ints("one_hot", Opset::IOS15, &given(0));
        assert_eq!(first, (vec![2, 4], vec![0, 1, 0, 0, 1, 0, 0, 0]));
        for axis in [2, -3, i32::MIN, i32::MAX] {
            assert!(refusal("one_hot", Opset::IOS15, &given(axis)).contains("out of range for rank 2"));
        }
    }

    #[test]
    fn one_hot_of_an_unknown_or_hostile_size() {
        let given = |size| [("indices", int(0)), ("one_hot_vector_size", size)];
        let later = given(typed(DType::Int32, &[]));
        assert_eq!(infer("one_hot", Opset::IOS15, &later).unwrap(), "[?]");
        assert_eq!(eval_ints("one_hot", Opset::IOS15, &given(int(0))), (vec![0], vec![]));
        assert!(refusal("one_hot", Opset::IOS15, &given(int(i32::MIN))).contains("must not be negative"));
        assert!(refusal("one_hot", Opset::IOS15, &given(int(i32::MAX))).contains("budget"));
        assert!(refusal("one_hot", Opset::IOS15, &given(ints(&[3]))).contains("must be a scalar"));
        let half = [
            ("indices", int(0)),
            ("one_hot_vector_size", int(2)),
            ("on_value", constant(Tensor::scalar(f16::from_f64(0.5)))),
        ];
        assert_eq!(eval("one_hot", Opset::IOS15, &half).unwrap().to_f64().unwrap(), [0.5, 0.0]);
    }
}
