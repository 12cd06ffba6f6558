//! What every op gives lies within the bound that its operands' ranges give it.

use std::collections::BTreeMap;
use std::path::Path;

use anemone_mil::tensor::Tensor;

use crate::bounds;
use crate::cases::{case_files, load, op_of};

/// How many results of a case file are bounded by more than their types.
fn check_file(file: &Path) -> Result<usize, String> {
    let (program, cases) = load(file)?;
    let mut bounded = 0;
    for function in &program.program().functions {
        let case = &cases[&function.name];
        let inputs: Vec<(&str, Tensor)> =
            case.inputs.iter().map(|(name, values)| (name.as_str(), values.tensor())).collect();
        let outputs: Vec<(&str, Tensor)> = function
            .body
            .outputs
            .iter()
            .map(|&id| function.value(id).name.as_str())
            .filter_map(|name| Some((name, case.outputs.get(name)?.tensor())))
            .collect();
        let inputs = inputs.iter().map(|(name, tensor)| (*name, tensor));
        let outputs = outputs.iter().map(|(name, tensor)| (*name, tensor));
        bounded += bounds::check(&program, &function.name, inputs, outputs)?;
    }
    Ok(bounded)
}

/// Ops whose results are bounded by their types alone, whatever they are given: those that give bools, those of lists,
/// `range_1d`, and the convolution of bytes, which the engine has not got.
const BY_TYPE: &str = "conv_quantized equal greater greater_equal less less_equal list_gather list_length list_read \
    list_scatter list_write logical_and logical_not logical_or logical_xor make_list not_equal range_1d";

#[test]
fn results_of_every_op_lie_within_their_bounds() {
    let (mut bounded, mut failures) = (BTreeMap::new(), Vec::new());
    for file in case_files() {
        match check_file(&file) {
            Ok(some) => *bounded.entry(op_of(&file).to_string()).or_insert(0) += some,
            Err(error) => failures.push(format!("{}: {error}", file.display())),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // A bound that is the type's own holds of anything.
    let without: Vec<&str> =
        bounded.iter().filter(|(_, some)| **some == 0).map(|(op, _)| op.as_str()).collect();
    assert_eq!(without.join(" "), BY_TYPE);
}
