//! Every gradient against central differences of the exact interpreter.
//!
//! The tables of cases say how to build a program around each op; an op of floating point that has neither a case nor a
//! reason why it has no gradient fails the test.

#![allow(clippy::unwrap_used, clippy::panic)] // A failure here is a failure of the test.

use anemone_mil::ops::{self, Gradient, OpDef, OperandForm};

mod gradients {
    pub mod activations;
    pub mod arithmetic;
    pub mod case;
    pub mod check;
    pub mod images;
    pub mod indexing;
    pub mod movement;
    pub mod products;
    pub mod recurrent;
}

use gradients::case::Maker;
use gradients::{activations, arithmetic, check, images, indexing, movement, products, recurrent};

/// All cases, family by family.
const FAMILIES: [&[(&str, Maker)]; 7] = [
    activations::CASES,
    arithmetic::CASES,
    products::CASES,
    recurrent::CASES,
    movement::CASES,
    indexing::CASES,
    images::CASES,
];

#[test]
fn activations_have_the_gradients_of_central_differences() {
    check::all(activations::CASES);
}

#[test]
fn arithmetic_has_the_gradients_of_central_differences() {
    check::all(arithmetic::CASES);
}

#[test]
fn products_have_the_gradients_of_central_differences() {
    check::all(products::CASES);
}

#[test]
fn recurrent_layers_have_the_gradients_of_central_differences() {
    check::all(recurrent::CASES);
}

#[test]
fn movement_has_the_gradients_of_central_differences() {
    check::all(movement::CASES);
}

#[test]
fn indexing_has_the_gradients_of_central_differences() {
    check::all(indexing::CASES);
}

#[test]
fn images_have_the_gradients_of_central_differences() {
    check::all(images::CASES);
}

/// Whether an operand of the op may be of floating point.
fn takes_floats(row: &OpDef) -> bool {
    let mut values = row.parameters.iter().filter(|parameter| parameter.kind.form != OperandForm::List);
    values.any(|parameter| match row.domain(parameter) {
        Some(set) => set.iter().any(|dtype| dtype.is_float()),
        None => true,
    })
}

#[test]
fn every_op_of_floating_point_has_a_comparison_or_a_reason() {
    let compared = |name: &str| FAMILIES.iter().flat_map(|cases| cases.iter()).any(|case| case.0 == name);
    let mut lacking = Vec::new();
    for row in ops::rows().filter(|row| takes_floats(row)) {
        let fine = match row.gradient {
            Gradient::None(reason) => !reason.is_empty() && !compared(row.name),
            // Without a rule, the case shows that no result is of floating point.
            Gradient::Rule(_) | Gradient::Unsaid => compared(row.name),
        };
        if !fine && !lacking.contains(&row.name) {
            lacking.push(row.name);
        }
    }
    assert!(lacking.is_empty(), "neither a case nor a reason, or both: {}", lacking.join(", "));
}
