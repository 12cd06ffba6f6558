//! The labels of a classifier. They are in the program, not in the description: in what the op is given that gives the
//! answer.

use std::collections::HashMap;

use anemone_mil::program::{Argument, Function, Literal, LiteralValue, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::verify::CONST;

use crate::description::Signature;

/// The labels of a classifier, in the order of its probabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Words.
    Strings(Vec<String>),
    /// Whole numbers.
    Integers(Vec<i64>),
}

impl Labels {
    /// The labels of a function; `None` where it is no classifier, or its op has no list of labels.
    pub fn of(function: &Function, signature: &Signature) -> Option<Labels> {
        let answer = function.value_named(&signature.predicted_feature)?;
        let ops = || function.body.ops.iter().filter_map(|id| function.ops.get(id.index()));
        let op = ops().find(|op| op.results.contains(&answer))?;
        let constants: HashMap<ValueId, &Literal> = ops()
            .filter(|op| op.name == CONST)
            .filter_map(|op| Some((*op.results.first()?, op.attributes.get("val")?)))
            .collect();
        let given = op.arguments.iter().filter_map(|(_, argument)| match argument {
            Argument::Literal(literal) => Some(literal),
            Argument::Value(id) => constants.get(id).copied(),
            Argument::Tuple(_) => None,
        });
        given.chain(op.attributes.iter().map(|(_, literal)| literal)).find_map(labels)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Labels::Strings(labels) => labels.len(),
            Labels::Integers(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels as text.
    pub fn to_text(&self) -> Vec<String> {
        match self {
            Labels::Strings(labels) => labels.clone(),
            Labels::Integers(labels) => labels.iter().map(i64::to_string).collect(),
        }
    }
}

fn labels(literal: &Literal) -> Option<Labels> {
    let LiteralValue::List(items) = &literal.value else { return None };
    let tensors = || {
        items.iter().map(|item| match item {
            LiteralValue::Tensor(tensor) => Some(tensor.as_ref()),
            _ => None,
        })
    };
    let one = |tensor: Option<&Tensor>| match tensor?.as_slice::<String>()? {
        [label] => Some(label.clone()),
        _ => None,
    };
    let number = |tensor: Option<&Tensor>| match tensor?.to_i64()?.as_slice() {
        &[label] => Some(label),
        _ => None,
    };
    let strings: Option<Vec<String>> = tensors().map(one).collect();
    strings
        .map(Labels::Strings)
        .or_else(|| tensors().map(number).collect::<Option<Vec<i64>>>().map(Labels::Integers))
}
