//! A program around one op, with inputs at which its gradient is looked at.

use std::sync::Arc;

use anemone_mil::builder::{AnyCall, BuildError, FunctionBuilder};
use anemone_mil::program::{Program, ValueId, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::verify::{self, Verified};

/// Builds the op to be looked at, with inputs and constants that the case hands out; gives what it results in.
pub type Maker = fn(&mut Case) -> Result<Vec<ValueId>, BuildError>;

/// Values are multiples of this, so that fp16 holds them and their neighbours exactly.
pub const GRID: f64 = 1.0 / 128.0;

/// Random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number less than `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// A number between the two, on the grid.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + GRID * self.below(((most - least) / GRID) as usize + 1) as f64
    }

    /// A number of either sign that keeps clear of 0.
    pub fn signed(&mut self) -> f64 {
        let magnitude = self.between(0.125, 2.0);
        if self.below(2) == 0 { magnitude } else { -magnitude }
    }
}

/// A program that is being built around one op.
pub struct Case {
    /// Builds the program.
    pub builder: FunctionBuilder,
    /// The element type of what the case hands out.
    pub dtype: DType,
    /// The opset of the program.
    pub opset: Opset,
    /// Where all choices come from.
    pub random: Random,
    /// The values of the inputs, in order.
    pub inputs: Vec<(String, Tensor)>,
    /// The constants to differentiate by.
    pub constants: Vec<String>,
    /// Whether second derivatives exist.
    pub smooth: bool,
    /// By how much a gradient may differ, relative to the largest of its tensor.
    pub tolerance: f64,
}

impl Case {
    /// A case without inputs.
    pub fn new(version: Version, opset: Opset, dtype: DType, seed: u64) -> Case {
        Case {
            builder: FunctionBuilder::new("main", version, opset),
            dtype,
            opset,
            random: Random(seed),
            inputs: Vec::new(),
            constants: Vec::new(),
            smooth: true,
            tolerance: 1e-6,
        }
    }

    /// Says that the op has kinks or steps: there are no second derivatives to compare.
    pub fn kinked(&mut self) {
        self.smooth = false;
    }

    /// Says that the rule has factors that fp16 rounds: what it gives is as exact as those.
    pub fn has_rounded_factors(&mut self) {
        if self.dtype == DType::Fp16 {
            self.tolerance = 2f64.powi(-10);
        }
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())].clone()
    }

    /// A yes or a no.
    pub fn coin(&mut self) -> bool {
        self.random.below(2) == 1
    }

    /// As many dimensions as `rank`, each 1 to 3 long.
    pub fn dims(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| 1 + self.random.below(3)).collect()
    }

    /// Dimensions of a rank between the two.
    pub fn dims_between(&mut self, least: usize, most: usize) -> Vec<usize> {
        let rank = least + self.random.below(most - least + 1);
        self.dims(rank)
    }

    /// Two shapes that broadcast together.
    pub fn broadcast_dims(&mut self) -> (Vec<usize>, Vec<usize>) {
        let all = self.dims_between(0, 3);
        let part = |case: &mut Case| {
            let skip = if case.coin() { 0 } else { case.random.below(all.len() + 1) };
            all[skip..].iter().map(|&dim| if case.random.below(3) == 0 { 1 } else { dim }).collect()
        };
        (part(self), part(self))
    }

    /// Axes of a tensor of this rank, in any order, some counted from the last; at least one where there is one.
    pub fn axes(&mut self, rank: usize) -> Vec<i32> {
        let mut axes: Vec<i32> = Vec::new();
        for axis in 0..rank as i32 {
            if self.coin() || (axes.is_empty() && axis + 1 == rank as i32) {
                let axis = if self.coin() { axis } else { axis - rank as i32 };
                let at = self.random.below(axes.len() + 1);
                axes.insert(at, axis);
            }
        }
        axes
    }

    fn tensor(&mut self, dtype: DType, dims: &[usize], mut value: impl FnMut(&mut Random) -> f64) -> Tensor {
        let values: Vec<f64> = (0..dims.iter().product()).map(|_| value(&mut self.random)).collect();
        Tensor::from_f64(dtype, dims, &values).unwrap()
    }

    fn add_input(&mut self, tensor: Tensor) -> ValueId {
        let ty = if tensor.shape().is_empty() {
            self.scalar_type(tensor.dtype())
        } else {
            TensorType::new(tensor.dtype(), tensor.shape()).into()
        };
        let id = self.builder.input("x", ty);
        self.inputs.push((self.builder.function().value(id).name.clone(), tensor));
        id
    }

    fn scalar_type(&self, dtype: DType) -> anemone_mil::types::Type {
        let version = if self.opset >= Opset::IOS18 { Version::V1_3 } else { Version::V1_0 };
        version.dialect().scalar_type(dtype)
    }

    /// An input of values of either sign that keep clear of 0.
    pub fn input(&mut self, dims: &[usize]) -> ValueId {
        self.input_of(dims, Random::signed)
    }

    /// An input of values between the two.
    pub fn input_between(&mut self, dims: &[usize], least: f64, most: f64) -> ValueId {
        self.input_of(dims, |random| random.between(least, most))
    }

    /// An input of values that a function gives, multiples of [`GRID`].
    pub fn input_of(&mut self, dims: &[usize], value: impl FnMut(&mut Random) -> f64) -> ValueId {
        let tensor = self.tensor(self.dtype, dims, value);
        self.add_input(tensor)
    }

    /// An input of values of which no two are nearer than `spacing` to each other, or than half of it to 0.
    pub fn distinct_input(&mut self, dims: &[usize], spacing: f64) -> ValueId {
        let count: usize = dims.iter().product();
        let mut values: Vec<f64> =
            (0..count).map(|i| spacing * (i as f64 - (count / 2) as f64 + 0.5)).collect();
        for i in (1..count).rev() {
            values.swap(i, self.random.below(i + 1));
        }
        let mut values = values.into_iter();
        self.input_of(dims, |_| values.next().unwrap())
    }

    /// An int32 input of values less than `bound`; not differentiated by.
    pub fn int_input(&mut self, dims: &[usize], bound: usize) -> ValueId {
        let values: Vec<i64> = (0..dims.iter().product()).map(|_| self.random.below(bound) as i64).collect();
        self.add_input(Tensor::from_i64(DType::Int32, dims, &values).unwrap())
    }

    /// An input of booleans.
    pub fn bool_input(&mut self, dims: &[usize]) -> ValueId {
        let values: Vec<i64> = (0..dims.iter().product()).map(|_| self.random.below(2) as i64).collect();
        self.add_input(Tensor::from_i64(DType::Bool, dims, &values).unwrap())
    }

    /// A constant of values of either sign that keep clear of 0, differentiated by.
    pub fn constant(&mut self, dims: &[usize]) -> ValueId {
        self.constant_of(self.dtype, dims, Random::signed)
    }

    /// A constant of values that a function gives, multiples of [`GRID`].
    pub fn constant_of(
        &mut self,
        dtype: DType,
        dims: &[usize],
        value: impl FnMut(&mut Random) -> f64,
    ) -> ValueId {
        let tensor = self.tensor(dtype, dims, value);
        let id = self.builder.constant("w", tensor);
        self.constants.push(self.builder.function().value(id).name.clone());
        id
    }

    /// The element type for parameters that may have another than `x`: in old opsets its own.
    pub fn parameter_dtype(&mut self) -> DType {
        if self.opset >= Opset::IOS17 { self.pick(&[DType::Fp16, DType::Fp32]) } else { self.dtype }
    }

    /// Binds the op.
    pub fn bind(&mut self, call: impl Into<AnyCall>) -> Result<Vec<ValueId>, BuildError> {
        Ok(vec![self.builder.bind("y", call)?])
    }

    /// The program, which gives these values.
    pub fn program(&self, outputs: Vec<ValueId>) -> Arc<Verified> {
        let version = if self.opset >= Opset::IOS18 { Version::V1_3 } else { Version::V1_0 };
        let mut program = Program::new(version);
        program.functions.push(self.builder.clone().finish(outputs));
        verified(program)
    }
}

/// A program that must be sound.
pub fn verified(program: Program) -> Arc<Verified> {
    let text = anemone_mil::text::write(&program);
    match verify::verify(program) {
        // Warnings are of what Core ML refuses.
        Ok(verified) if verified.warnings().is_empty() => Arc::new(verified),
        Ok(verified) => panic!("{}\n{text}", verified.warnings()),
        Err(errors) => panic!("{errors}\n{text}"),
    }
}
