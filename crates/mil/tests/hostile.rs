//! Whatever its operands, an op answers with results of the types it inferred or with an error.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::ops::{self, Given, OpDef, Operand, OperandForm, Operands, ParameterDef};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Dim, Shape, TensorType};
use proptest::prelude::*;

/// Numbers that index, count, stride and pad: mostly small ones, so that some calls succeed.
const INTEGERS: [i64; 16] =
    [0, 1, 1, 2, 2, 3, -1, -2, -3, 4, 5, 64, 1000, i32::MIN as i64, i32::MAX as i64, 1 << 20];
const FLOATS: [f64; 10] =
    [0.0, 1.0, -1.0, 0.5, -0.0, 3.0, 65504.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
const DIMENSIONS: [usize; 8] = [1, 2, 2, 3, 3, 4, 0, 5];
const UNKNOWN: [Dim; 8] = [
    Dim::Unknown,
    Dim::Unknown,
    Dim::Known(2),
    Dim::Known(3),
    Dim::Known(0),
    Dim::Known(1 << 31),
    Dim::Known(1 << 46),
    Dim::Known(u64::MAX),
];
const WORDS: [&str; 18] = [
    "fp32",
    "constant",
    "reflect",
    "replicate",
    "update",
    "add",
    "sub",
    "mul",
    "div",
    "max",
    "min",
    "valid",
    "same",
    "custom",
    "fp16",
    "int32",
    "int8",
    "anything",
];

/// Words that only one parameter takes, by how often they are tried.
const WORDS_OF: [(&str, &[&str]); 11] = [
    ("quantization_type", &["linear", "linear", "lut"]),
    ("sampling_mode", &["bilinear", "bilinear", "nearest", "DEFAULT", "OFFSET_CORNERS"]),
    ("padding_mode", &["constant", "constant", "border", "reflection", "symmetric"]),
    ("coordinates_mode", &["unnormalized", "normalized_minus_one_to_one", "normalized_minus_one_to_one"]),
    ("box_coordinate_mode", &["CORNERS_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"]),
    ("interpolation_mode", &["LINEAR", "NEAREST_NEIGHBOR"]),
    ("direction", &["forward", "forward", "reverse", "bidirectional"]),
    ("activation", ACTIVATIONS),
    ("recurrent_activation", ACTIVATIONS),
    ("cell_activation", ACTIVATIONS),
    ("equation", &["nchw,nwhu->nchu", "chw,whr->chr"]),
];
const ACTIVATIONS: &[&str] = &["tanh", "sigmoid", "relu", "linear"];
/// Shapes that only one op takes.
const SHAPES: [&[usize]; 4] = [&[1, 6], &[1, 4], &[2, 1, 4, 1, 1], &[1, 1, 5, 1, 1]];

/// Dimensions of operands by the names of their parameters.
type Fitting = &'static [(&'static str, &'static [usize])];
/// Those of operands that must fit one another, op by op.
const FITTING: [(&str, Fitting); 7] = [
    (
        "conv_quantized",
        &[
            ("x", &[1, 2, 4]),
            ("weight", &[2, 2, 1]),
            ("quant_scale", &[2]),
            ("quant_bias", &[1]),
            ("bias", &[2]),
            ("strides", &[1]),
            ("pad", &[2]),
            ("dilations", &[1]),
        ],
    ),
    ("classify", &[("probabilities", &[1, 3]), ("classes", &[3])]),
    (
        "rnn",
        &[
            ("x", &[2, 1, 3]),
            ("initial_h", &[1, 2]),
            ("weight_ih", &[2, 3]),
            ("weight_hh", &[2, 2]),
            ("bias", &[2]),
        ],
    ),
    (
        "gru",
        &[
            ("x", &[2, 1, 3]),
            ("initial_h", &[1, 2]),
            ("weight_ih", &[6, 3]),
            ("weight_hh", &[6, 2]),
            ("bias", &[6]),
        ],
    ),
    (
        "lstm",
        &[
            ("x", &[2, 1, 3]),
            ("initial_h", &[1, 2]),
            ("initial_c", &[1, 2]),
            ("weight_ih", &[8, 3]),
            ("weight_hh", &[8, 2]),
            ("bias", &[8]),
            ("peephole", &[6]),
        ],
    ),
    ("batch_to_space", &[("x", &[4, 1, 2, 2]), ("block_shape", &[2]), ("crops", &[2, 2])]),
    ("space_to_batch", &[("x", &[1, 1, 2, 2]), ("block_shape", &[2]), ("paddings", &[2, 2])]),
];

/// Choices made by the numbers that the test is given, one after the other.
struct Choices<'a> {
    numbers: std::iter::Cycle<std::slice::Iter<'a, u32>>,
    /// The dimensions of the op's first operand, which those of the others often depend on.
    first: Option<Vec<usize>>,
    /// Those that its operands have by name.
    fitting: Fitting,
}

impl Choices<'_> {
    fn below(&mut self, count: usize) -> usize {
        self.numbers.next().map_or(0, |&number| number as usize % count)
    }

    fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// Dimensions of a parameter, of its rank if it has one.
    fn dims(&mut self, parameter: &ParameterDef) -> Vec<usize> {
        if let Some((_, dims)) = self.fitting.iter().find(|(name, _)| *name == parameter.name) {
            return dims.to_vec();
        }
        let rank = parameter.kind.rank;
        let first = self.first.clone().unwrap_or_default();
        let dims = match self.below(7) {
            0 | 1 if !first.is_empty() => vec![first.len()],
            2 if first.len() > 1 => vec![first[1]],
            3 => first,
            4 | 5 => self.of(&SHAPES).to_vec(),
            _ => Vec::new(),
        };
        if dims.is_empty() || rank.is_some_and(|rank| rank != dims.len()) {
            let rank = rank.unwrap_or_else(|| self.below(5));
            return (0..rank).map(|_| self.of(&DIMENSIONS)).collect();
        }
        dims
    }
}

fn tensor(
    dtype: DType,
    dims: &[usize],
    parameter: &ParameterDef,
    choices: &mut Choices<'_>,
) -> Option<Tensor> {
    let count = dims.iter().product();
    if dtype.is_float() {
        let values: Vec<f64> = (0..count).map(|_| choices.of(&FLOATS)).collect();
        return Tensor::from_f64(dtype, dims, &values).ok();
    }
    if dtype == DType::String {
        let own = WORDS_OF.iter().find(|(name, _)| *name == parameter.name).map(|(_, words)| *words);
        let words = own.filter(|_| choices.below(4) > 0).unwrap_or(&WORDS);
        let values = (0..count).map(|_| choices.of(words).to_string()).collect();
        return Tensor::from_values(dims, values).ok();
    }
    let (least, most) = dtype.integer_range().unwrap_or((0, 1));
    let value = |choices: &mut Choices<'_>| i128::from(choices.of(&INTEGERS)).clamp(least, most) as i64;
    let values: Vec<i64> = (0..count).map(|_| value(choices)).collect();
    Tensor::from_i64(dtype, dims, &values).ok()
}

/// Some operand for a parameter, of an element type that its op takes.
fn operand(
    row: &OpDef,
    parameter: &ParameterDef,
    dtypes: &mut HashMap<&'static str, DType>,
    choices: &mut Choices<'_>,
) -> Option<Operand> {
    let domain: Vec<DType> = match row.domain(parameter) {
        Some(set) => set.iter().collect(),
        None => vec![DType::Fp16, DType::Int32, DType::Bool, DType::String, DType::Int64],
    };
    let dtype = choices.of(&domain);
    let dtype = parameter.variable.map_or(dtype, |variable| *dtypes.entry(variable).or_insert(dtype));
    let dims = choices.dims(parameter);
    if !parameter.kind.constant && choices.below(16) == 0 {
        let dims = (0..dims.len()).map(|_| choices.of(&UNKNOWN)).collect();
        return Some(Operand::of_type(TensorType { dtype, shape: Shape(dims) }));
    }
    choices.first.get_or_insert_with(|| dims.clone());
    let constant = parameter.kind.constant || choices.below(2) == 0;
    Some(Operand { constant, ..Operand::constant(Arc::new(tensor(dtype, &dims, parameter, choices)?)) })
}

fn operands(row: &'static OpDef, choices: &mut Choices<'_>) -> Option<Operands<'static>> {
    choices.first = None;
    choices.fitting = match FITTING.iter().find(|(name, _)| *name == row.name) {
        Some((_, fitting)) if choices.below(2) == 0 => fitting,
        _ => &[],
    };
    let mut dtypes = HashMap::new();
    let mut given = Vec::new();
    for parameter in row.parameters {
        if parameter.optional && choices.below(3) == 0 {
            continue;
        }
        let mut one = || operand(row, parameter, &mut dtypes, choices);
        given.push((
            parameter.name,
            match parameter.kind.form {
                OperandForm::Tensor => Given::One(one()?),
                OperandForm::Tuple | OperandForm::TensorsAndLists => Given::Tuple(vec![one()?, one()?]),
                OperandForm::List => {
                    let operand = one()?;
                    // A list's first dimension is its length.
                    Given::One(Operand { is_list: operand.rank() > 0, ..operand })
                }
                OperandForm::State => return None,
            },
        ));
    }
    Some(Operands(given))
}

/// Runs an op as the interpreter does; whether it gave results.
fn answer(row: &OpDef, operands: &Operands<'_>) -> bool {
    let Ok(types) = (row.infer)(operands) else { return false };
    let known = operands.0.iter().all(|(_, given)| match given {
        Given::One(operand) => operand.value.is_some(),
        Given::Tuple(items) => items.iter().all(|operand| operand.value.is_some()),
    });
    if !known || types.iter().all(|ty| ty.shape.elements() == Some(0)) {
        return false;
    }
    let mut evaluation = Evaluation::new(Budget { elements: 1 << 14, work: 1 << 20 });
    if types.iter().any(|ty| evaluation.allocate(&ty.shape).is_err()) {
        return false;
    }
    let Ok(results) = (row.eval)(operands, &mut evaluation) else { return false };
    assert_eq!(results.len(), types.len(), "{row:?}");
    for (result, ty) in results.iter().zip(&types) {
        assert_eq!(result.ty(), *ty, "{row:?}");
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_operands_make_an_op_panic(numbers in prop::collection::vec(any::<u32>(), 1..64)) {
        let mut choices = Choices { numbers: numbers.iter().cycle(), first: None, fitting: &[] };
        for row in ops::rows() {
            if let Some(operands) = operands(row, &mut choices) {
                answer(row, &operands);
            }
        }
    }
}

/// The test above means little for an op that refuses everything it makes up.
#[test]
fn every_op_gives_results_for_some_operands() {
    let mut state = 1u32;
    let mut never: Vec<&OpDef> = ops::rows().collect();
    // States and blocks are an interpreter's, and this test has none.
    never.retain(|row| row.blocks.is_none() && !ops::signatures(row.name).any(|row| row.stateful));
    // A mask with as many ones as there are indices, and palettes that fit both, do not come by chance.
    // Nor do two ranges of dimensions, given as lists of numbers and bools, that hold as many elements as there are.
    never.retain(|row| !matches!(row.name, "constexpr_lut_to_sparse" | "reshape_like"));
    for _ in 0..100_000 {
        // Marsaglia's xorshift (2003).
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let numbers: Vec<u32> = (0..64).map(|_| next()).collect();
        never.retain(|row| {
            let mut choices = Choices { numbers: numbers.iter().cycle(), first: None, fitting: &[] };
            !operands(row, &mut choices).is_some_and(|given| answer(row, &given))
        });
    }
    let never: Vec<(&str, u16)> = never.iter().map(|row| (row.name, row.since.0)).collect();
    assert_eq!(never, []);
}
