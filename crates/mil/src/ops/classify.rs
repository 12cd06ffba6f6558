//! The op that ends a classifier.
//!
//! A dictionary's value is kept as one tensor, that of its values in the order of its keys.

use crate::error::ErrorKind;
use crate::eval::Evaluation;
use crate::ops::rules::free;
use crate::ops::{Accuracy, DTypeSet, List, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

const FP32: DTypeSet = DTypeSet::of(&[DType::Fp32]);

crate::ops! {
    /// The one of `classes`, a list of strings or of `int64`, that the largest of `probabilities` belongs to, the first of
    /// several; and a dictionary of the probability of each class. There are as many classes as probabilities, whatever
    /// the dimensions of these are.
    Classify = classify(probabilities: Operand[T], classes: List) since IOS15 where [T: FP32]
        { infer: classify_type, eval: classify, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through dictionaries"; flops: free; [gives_dictionary] }
}

fn classify_type(row: &Classify) -> Result<Vec<TensorType>, OpError> {
    let classes = &row.classes.0;
    if !matches!(classes.dtype(), DType::String | DType::Int64) || classes.rank() != 1 {
        return Err(OpError::rule("classes", "must be a list of strings or of int64")
            .found(format!("found {}", classes.held_type())));
    }
    let count = classes.shape().0[0];
    let there = row.probabilities.shape().elements().map_or(Dim::Unknown, Dim::Known);
    if !count.agrees_with(there) {
        return Err(OpError::rule("classes", format!("must hold one for each of {there} probabilities"))
            .found(format!("found {count}")));
    }
    if count == Dim::Known(0) {
        return Err(OpError::rule("classes", "must not be empty"));
    }
    let of_probabilities = TensorType { dtype: DType::Fp64, shape: Shape(vec![count.or(there)]) };
    Ok(vec![TensorType::new(classes.dtype(), &[]), of_probabilities])
}

fn classify(row: &Classify, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    classify_type(row)?;
    let probabilities = row.probabilities.floats()?;
    let mut likeliest = 0;
    for (index, value) in probabilities.iter().enumerate() {
        if *value > probabilities[likeliest] {
            likeliest = index;
        }
    }
    let classes = row.classes.0.tensor()?;
    let class = match (classes.as_slice::<String>(), classes.to_i64()) {
        (Some(words), _) => words.get(likeliest).map(|word| Tensor::scalar(word.clone())),
        (None, numbers) => numbers.and_then(|numbers| numbers.get(likeliest).map(|&n| Tensor::scalar(n))),
    };
    let missing =
        || OpError::new(ErrorKind::Malformed, Some("classes"), "there is no class for a probability");
    Ok(vec![class.ok_or_else(missing)?, Tensor::vector(probabilities)])
}

#[cfg(test)]
mod tests {
    use crate::text;
    use crate::verify::verify;

    #[test]
    fn no_op_takes_a_dictionary() {
        let source = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2]> x) {
            string label, dict<string, fp64> all = classify(classes = list<string, 2>(["a", "b"]), probabilities = x)[name = string("label")];
            tensor<fp64, [2]> y = identity(x = all)[name = string("y")];
        } -> (y);
}
"#;
        let errors = verify(text::parse(source).unwrap().program).unwrap_err().to_string();
        assert!(
            errors.contains("neither a tensor nor a state") || errors.contains("take tensors"),
            "{errors}"
        );
    }
}
