//! The checks that follow from a row's parameters alone: which there are, their form, constness, rank and
//! element type.

use std::collections::HashMap;

use crate::bind::NAME_ATTRIBUTE;
use crate::error::ErrorKind;
use crate::ops::{self, Given, OpDef, OpError, Operand, OperandForm, Operands, ParameterDef};
use crate::program::Op;
use crate::suggest::nearest;
use crate::types::{DType, Opset};

/// Everything in which the operands differ from what the row's parameters ask for.
pub fn check(op: &Op, row: &OpDef, opset: Opset, operands: &Operands<'_>) -> Vec<OpError> {
    let mut errors = Vec::new();
    for (name, _) in op.arguments.iter() {
        if row.parameter(name).is_none() {
            errors.push(unknown_parameter(row, name));
        }
    }
    for (name, _) in op.attributes.iter().filter(|(name, _)| row.constexpr && *name != NAME_ATTRIBUTE) {
        if row.parameter(name).is_none() {
            errors.push(unknown_parameter(row, name));
        } else if op.arguments.get(name).is_some() {
            let message = "this parameter is given twice, as an argument and as an attribute";
            errors.push(OpError::new(ErrorKind::Redefinition, Some(name), message));
        }
    }
    let mut variables = HashMap::new();
    for parameter in row.parameters {
        match operands.get(parameter.name) {
            Some(given) => check_given(row, opset, parameter, given, &mut variables, &mut errors),
            None if !parameter.optional => errors.push(missing_parameter(op, row, parameter)),
            None => {}
        }
    }
    errors
}

fn unknown_parameter(row: &OpDef, name: &str) -> OpError {
    let names: Vec<&str> = row.parameters.iter().map(|parameter| parameter.name).collect();
    let error = OpError::new(ErrorKind::UnknownParameter, Some(name), "the op has no such parameter")
        .found(format!("it takes {}", names.join(", ")));
    if let Some(newer) = ops::signatures(row.name).find(|row| row.parameter(name).is_some()) {
        return error.with_help(format!("it has had this parameter since {}", newer.since));
    }
    match nearest(name, names) {
        Some(near) => error.with_help(format!("the nearest parameter is `{near}`")),
        None => error,
    }
}

fn missing_parameter(op: &Op, row: &OpDef, parameter: &ParameterDef) -> OpError {
    let kinds = row.domain(parameter).map(|set| format!(" of {set}")).unwrap_or_default();
    let constant = if parameter.kind.constant { "a constant " } else { "a " };
    let form = match (parameter.kind.form, parameter.kind.rank) {
        (OperandForm::Tuple, _) => "tuple",
        (OperandForm::State, _) => "state",
        (OperandForm::Tensor, Some(0)) => "scalar",
        (OperandForm::Tensor, Some(1)) => "vector",
        (OperandForm::Tensor, _) => "tensor",
    };
    // Not attached as a parameter: the place to point at is the op itself.
    OpError::new(
        ErrorKind::MissingParameter,
        None,
        format!("the required parameter `{}` is missing", parameter.name),
    )
    .found(format!("`{}` takes {constant}{form}{kinds} as `{}`", op.name, parameter.name))
}

fn check_given(
    row: &OpDef,
    opset: Opset,
    parameter: &ParameterDef,
    given: &Given,
    variables: &mut HashMap<&'static str, (DType, &'static str)>,
    errors: &mut Vec<OpError>,
) {
    let mut refuse = |kind, message: String, label: String| {
        errors.push(OpError::new(kind, Some(parameter.name), message).found(label));
    };
    let form = parameter.kind.form;
    let items = match (given, form) {
        (Given::Tuple(items), OperandForm::Tuple) => items.as_slice(),
        (Given::One(operand), OperandForm::Tensor) if !operand.is_state => std::slice::from_ref(operand),
        (Given::One(operand), OperandForm::State) if operand.is_state => std::slice::from_ref(operand),
        _ => {
            let wanted = match form {
                OperandForm::Tensor => "a tensor or scalar",
                OperandForm::Tuple => "a tuple, written in parentheses",
                OperandForm::State => "a state",
            };
            refuse(ErrorKind::OperandKind, format!("must be {wanted}"), format!("found {}", describe(given)));
            return;
        }
    };
    for operand in items {
        if parameter.kind.constant && !operand.constant {
            let message = "must be a constant".to_string();
            refuse(ErrorKind::NotConstant, message, "this is computed when the program runs".to_string());
        }
        if let Some(rank) = parameter.kind.rank.filter(|&rank| rank != operand.rank()) {
            let wanted = if rank == 0 { "a scalar" } else { "a vector" };
            let message = format!("must be {wanted}");
            refuse(ErrorKind::Rule, message, format!("found {}", operand.ty));
        }
        check_dtype(row, opset, parameter, operand, variables, &mut refuse);
    }
}

fn check_dtype(
    row: &OpDef,
    opset: Opset,
    parameter: &ParameterDef,
    operand: &Operand,
    variables: &mut HashMap<&'static str, (DType, &'static str)>,
    refuse: &mut dyn FnMut(ErrorKind, String, String),
) {
    let dtype = operand.dtype();
    let Some(domain) = row.domain(parameter) else { return };
    if !domain.contains(dtype) {
        let newer = ops::signatures(row.name).filter(|newer| newer.since > opset).find(|newer| {
            let domain = newer.parameter(parameter.name).and_then(|found| newer.domain(found));
            domain.is_some_and(|domain| domain.contains(dtype))
        });
        match newer {
            Some(newer) => refuse(
                ErrorKind::Version,
                format!("cannot be {dtype} in {opset}"),
                format!("{dtype} is accepted since {}", newer.since),
            ),
            None => refuse(ErrorKind::ElementType, format!("must be {domain}"), format!("found {dtype}")),
        }
        return;
    }
    let Some(variable) = parameter.variable else { return };
    let (first, first_name) = *variables.entry(variable).or_insert((dtype, parameter.name));
    if first != dtype {
        let message = format!("must have the element type of `{first_name}`, {first}");
        refuse(ErrorKind::ElementType, message, format!("found {dtype}"));
    }
}

fn describe(given: &Given) -> String {
    match given {
        Given::Tuple(items) => format!("a tuple of {}", items.len()),
        Given::One(operand) if operand.is_state => "a state".to_string(),
        Given::One(operand) => operand.ty.to_string(),
    }
}
