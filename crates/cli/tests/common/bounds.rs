//! Whether what a function gives lies within its bounds.

use anemone_ane::ranges::{Assumptions, Interval, NamedRange, bounds};
use anemone_mil::tensor::Tensor;
use anemone_mil::verify::Verified;

/// Checks results against the bounds of a function whose inputs are what these tensors hold; gives how many results are
/// bounded by more than their types.
///
/// # Errors
///
/// Names the first result with an element outside its bound.
pub fn check<'a>(
    program: &Verified,
    function: &str,
    inputs: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    results: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<usize, String> {
    let (index, of) = program.program().function(function).ok_or("there is no such function")?;
    let range = |(name, tensor): (&str, &Tensor)| NamedRange {
        name: name.to_string(),
        range: Interval::of_tensor(tensor),
    };
    let ranges: Vec<NamedRange> = inputs.into_iter().map(range).collect();
    let assumptions = Assumptions::new(&ranges).map_err(|error| error.to_string())?;
    let bounds = bounds(program, index, &assumptions, None);
    let mut bounded = 0;
    for (&output, (name, tensor)) in of.body.outputs.iter().zip(results) {
        let bound = bounds.of(output);
        let outside = numbers(tensor).into_iter().find(|&value| !value.is_nan() && !bound.contains(value));
        if let Some(value) = outside {
            return Err(format!("`{name}` of `{function}` has {value}, outside {bound}"));
        }
        bounded += usize::from(bound != Interval::of_type(tensor.dtype()));
    }
    Ok(bounded)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let integers = || Some(tensor.to_i64()?.into_iter().map(|value| value as f64).collect());
    tensor.to_f64().or_else(integers).unwrap_or_default()
}
