//! Running a function, and comparing what two runs gave.

use std::collections::BTreeMap;
use std::sync::Arc;

use anemone_lm::random::Random;
use anemone_mil::program::{Function, LiteralValue};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::verify::{CONST, Verified};
use anemone_mil::weights::WeightSource;

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a run gave: results in order, and what states hold then, by name.
#[derive(Debug)]
pub struct Outcome {
    pub results: Vec<(String, Tensor)>,
    states: Vec<(String, Tensor)>,
}

/// Runs a function twice, so that states count. Values for inputs are found by name; states begin as zeros.
pub fn run(
    runtime: &dyn Runtime,
    program: &Arc<Verified>,
    name: &str,
    values: &Tensors,
    weights: &dyn WeightSource,
) -> Result<Outcome, String> {
    let (_, function) = program.program().function(name).ok_or("the function is gone")?;
    let given = |input: &String| values.get(input).ok_or(format!("there is no value for `{input}`"));
    let declared = || function.body.inputs.iter().map(|&id| function.value(id));
    let inputs = declared().filter(|input| !matches!(input.ty, Type::State(_)));
    let inputs: Vec<&Tensor> = inputs.map(|input| given(&input.name)).collect::<Result<_, _>>()?;
    let types: Vec<TensorType> = inputs.iter().map(|input| input.ty()).collect();
    let prepared = runtime.prepare(program, name, &types, weights);
    let mut executable = prepared.map_err(|error| error.to_string())?;
    let mut results = vec![Tensor::scalar(false); executable.outputs().len()];
    for _ in 0..2 {
        executable.run(&inputs, &mut results).map_err(|error| error.to_string())?;
    }
    let names = executable.outputs().iter().map(|port| port.name.clone());
    let states = declared().filter(|input| matches!(input.ty, Type::State(_)));
    let states =
        states.filter_map(|state| Some((state.name.clone(), executable.state(&state.name)?.clone())));
    Ok(Outcome { results: names.zip(results).collect(), states: states.collect() })
}

impl Outcome {
    /// The results in order, with their names.
    pub fn results(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.results.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether two runs gave the same, bit for bit but for those of NaN; the error names what differs.
    pub fn same(&self, other: &Outcome) -> Result<(), String> {
        let pairs = [(&self.results, &other.results), (&self.states, &other.states)];
        for (before, after) in pairs {
            if before.len() != after.len() {
                return Err(format!("{} values became {}", before.len(), after.len()));
            }
            for ((name, value), (other_name, other)) in before.iter().zip(after) {
                if name != other_name || !same_bits(value, other) {
                    return Err(format!("`{name}`, {value:?}, became `{other_name}`, {other:?}"));
                }
            }
        }
        Ok(())
    }
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let same = |x: &f64, y: &f64| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
    match (a.to_f64(), b.to_f64()) {
        (Some(x), Some(y)) => a.ty() == b.ty() && x.iter().zip(&y).all(|(x, y)| same(x, y)),
        _ => a == b,
    }
}

/// A tensor of a type with random values: small, of both signs.
pub fn random_tensor(ty: &TensorType, random: &mut Random) -> Tensor {
    let dims = ty.shape.to_known().expect("known dimensions");
    let count = dims.iter().product();
    if ty.dtype.is_float() {
        let values: Vec<f64> = (0..count).map(|_| random.normal()).collect();
        return Tensor::from_f64(ty.dtype, &dims, &values).expect("floating point of this type");
    }
    let bound = if ty.dtype == DType::Bool { 2 } else { 3 };
    let values: Vec<i64> = (0..count).map(|_| random.below(bound) as i64).collect();
    Tensor::from_i64(ty.dtype, &dims, &values).expect("integers of this type")
}

/// The values of the constants of a function, by name: what its inputs are given when constants have become inputs.
pub fn constants(function: &Function, weights: &dyn WeightSource) -> Tensors {
    let constants = function.walk().filter(|(_, op)| op.name == CONST);
    let values = constants.filter_map(|(_, op)| {
        let literal = op.attributes.get("val")?;
        let value = match &literal.value {
            LiteralValue::Tensor(tensor) => tensor.as_ref().clone(),
            LiteralValue::Blob(reference) => weights.load(reference, &literal.ty.as_tensor()?).ok()?,
            _ => return None,
        };
        Some((function.value(*op.results.first()?).name.clone(), value))
    });
    values.collect()
}
