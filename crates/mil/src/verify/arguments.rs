//! The checks that follow from a row's parameters alone: which there are, their form, constness, rank and
//! element type.

use std::collections::HashMap;

use crate::bind::NAME_ATTRIBUTE;
use crate::error::ErrorKind;
use crate::ops::{self, Given, OpDef, OpError, Operand, OperandForm, Operands, ParameterDef};
use crate::program::Op;
use crate::suggest::nearest;
use crate::types::{DType, Opset};

/// The likely fix where a state stands for a tensor.
const READ_FIRST: &str = "read the state into a tensor first";
/// The likely fix where a list stands for a tensor.
const TAKE_FROM_LIST: &str = "take a tensor from the list first";

/// Everything in which the operands differ from what the row's parameters ask for: at most one error per
/// parameter.
pub fn check(op: &Op, row: &OpDef, opset: Opset, operands: &Operands<'_>) -> Vec<OpError> {
    let mut errors = Vec::new();
    // Parameters that were given under a wrong name, or in a wrong place, and are not reported again as missing.
    let mut meant = Vec::new();
    for (name, _) in op.arguments.iter().filter(|(name, _)| row.parameter(name).is_none()) {
        let near = nearest(name, row.parameters.iter().map(|parameter| parameter.name));
        meant.extend(near);
        errors.push(unknown_parameter(row, name, near));
    }
    for (name, _) in op.attributes.iter().filter(|(name, _)| *name != NAME_ATTRIBUTE) {
        match row.parameter(name) {
            None if row.constexpr => errors.push(unknown_parameter(row, name, None)),
            Some(_) if op.arguments.get(name).is_some() => {
                let message = "this parameter is given twice";
                let error = OpError::new(ErrorKind::Redefinition, Some(name), message);
                errors.push(error.found("as an argument, and as an attribute"));
            }
            Some(parameter) if !row.constexpr => {
                meant.push(parameter.name);
                errors.push(attribute_for_argument(op, name));
            }
            _ => {}
        }
    }
    let mut variables = HashMap::new();
    for parameter in row.parameters {
        match operands.get(parameter.name) {
            Some(given) => errors.extend(check_given(row, opset, parameter, given, &mut variables).err()),
            None if !parameter.optional && !meant.contains(&parameter.name) => {
                errors.push(missing_parameter(row, parameter));
            }
            None => {}
        }
    }
    errors
}

fn unknown_parameter(row: &OpDef, name: &str, near: Option<&str>) -> OpError {
    let names: Vec<&str> = row.parameters.iter().map(|parameter| parameter.name).collect();
    let error = OpError::new(ErrorKind::UnknownParameter, Some(name), "the op has no such parameter")
        .found(format!("it takes {}", names.join(", ")));
    for other in ops::signatures(row.name) {
        let Some(parameter) = other.parameter(name) else { continue };
        return error.with_help(match parameter.only_before {
            Some(end) if end <= row.since => format!("it had this parameter before {end}"),
            _ => format!("it has had this parameter since {}", other.since),
        });
    }
    match near {
        Some(near) => error.with_help(format!("the nearest parameter is `{near}`")),
        None => error,
    }
}

fn attribute_for_argument(op: &Op, name: &str) -> OpError {
    let message = "this parameter is an argument";
    let error = OpError::new(ErrorKind::OperandKind, Some(name), message).found("found among the attributes");
    error.with_help(format!("write it in the parentheses: `{}(…, {name} = …)`", op.name))
}

fn missing_parameter(row: &OpDef, parameter: &ParameterDef) -> OpError {
    let message = format!("the required parameter `{}` is missing", parameter.name);
    // Not attached as a parameter: the place to point at is the op itself.
    OpError::new(ErrorKind::MissingParameter, None, message).found(format!(
        "expected `{} = …`, {}",
        parameter.name,
        wanted(row, parameter)
    ))
}

/// What a parameter takes, in words.
fn wanted(row: &OpDef, parameter: &ParameterDef) -> String {
    let constant = if parameter.kind.constant { "constant " } else { "" };
    let domain = row.domain(parameter);
    if let (Some(0), Some(domain)) = (parameter.kind.rank, domain.filter(|set| set.iter().count() == 1)) {
        return format!("a {constant}{domain}");
    }
    let dtypes = domain.map(|set| format!(" of {set}")).unwrap_or_default();
    let form = match (parameter.kind.form, parameter.kind.rank) {
        (OperandForm::Tuple, _) => return format!("a tuple of {constant}tensors{dtypes}, in parentheses"),
        (OperandForm::TensorsAndLists, _) => {
            return "a tuple of tensors and lists, in parentheses".to_string();
        }
        (OperandForm::State, _) => "state",
        (OperandForm::List, _) => "list",
        (OperandForm::Tensor, Some(0)) => "scalar",
        (OperandForm::Tensor, Some(1)) => "vector",
        (OperandForm::Tensor, _) => "tensor",
    };
    format!("a {constant}{form}{dtypes}")
}

fn check_given(
    row: &OpDef,
    opset: Opset,
    parameter: &ParameterDef,
    given: &Given,
    variables: &mut HashMap<&'static str, (DType, &'static str)>,
) -> Result<(), OpError> {
    let refuse = |kind, found: String| {
        let message = format!("must be {}", wanted(row, parameter));
        OpError::new(kind, Some(parameter.name), message).found(format!("found {found}"))
    };
    let items = match (given, parameter.kind.form) {
        (Given::Tuple(items), OperandForm::Tuple | OperandForm::TensorsAndLists) => items.as_slice(),
        (Given::One(operand), OperandForm::List) if operand.is_list => std::slice::from_ref(operand),
        (Given::One(operand), OperandForm::Tensor) => std::slice::from_ref(operand),
        (Given::One(operand), OperandForm::State) if operand.is_state => std::slice::from_ref(operand),
        _ => return Err(refuse(ErrorKind::OperandKind, describe(given))),
    };
    for (position, operand) in items.iter().enumerate() {
        let found = |operand: &Operand| match given {
            Given::Tuple(_) => format!("{} in place {}", describe_operand(operand), position + 1),
            Given::One(_) => describe_operand(operand),
        };
        if operand.is_state && parameter.kind.form != OperandForm::State {
            return Err(refuse(ErrorKind::OperandKind, found(operand)).with_help(READ_FIRST));
        }
        let lists = matches!(parameter.kind.form, OperandForm::List | OperandForm::TensorsAndLists);
        if operand.is_list && !lists {
            return Err(refuse(ErrorKind::OperandKind, found(operand)).with_help(TAKE_FROM_LIST));
        }
        if parameter.kind.constant && !operand.constant {
            let not_constant = format!("{}, computed when the program runs", found(operand));
            let error = refuse(ErrorKind::NotConstant, not_constant);
            return Err(match newer(row, opset, parameter, |newer, _| !newer.kind.constant) {
                Some(newer) => error.with_help(format!("it need not be a constant from {} on", newer.since)),
                None => error,
            });
        }
        if parameter.kind.rank.is_some_and(|rank| rank != operand.rank()) {
            return Err(refuse(ErrorKind::Rule, found(operand)));
        }
        check_dtype(row, opset, parameter, operand, variables, &|kind| refuse(kind, found(operand)))?;
    }
    Ok(())
}

/// The first newer signature whose parameter of the same name is as `accepts` wants it.
fn newer(
    row: &OpDef,
    opset: Opset,
    parameter: &ParameterDef,
    accepts: impl Fn(&ParameterDef, &OpDef) -> bool,
) -> Option<&'static OpDef> {
    let newer = ops::signatures(row.name).filter(|newer| newer.since > opset);
    newer
        .filter(|newer| newer.parameter(parameter.name).is_some_and(|found| accepts(found, newer)))
        .min_by_key(|newer| newer.since)
}

fn check_dtype(
    row: &OpDef,
    opset: Opset,
    parameter: &ParameterDef,
    operand: &Operand,
    variables: &mut HashMap<&'static str, (DType, &'static str)>,
    refuse: &dyn Fn(ErrorKind) -> OpError,
) -> Result<(), OpError> {
    let dtype = operand.dtype();
    let Some(domain) = row.domain(parameter) else { return Ok(()) };
    if !domain.contains(dtype) {
        let accepts =
            |found: &ParameterDef, newer: &OpDef| newer.domain(found).is_some_and(|set| set.contains(dtype));
        return Err(match newer(row, opset, parameter, accepts) {
            Some(newer) => {
                let message = format!("cannot be {dtype} in {opset}");
                OpError::new(ErrorKind::Version, Some(parameter.name), message)
                    .found(format!("{dtype} is accepted since {}", newer.since))
            }
            None => refuse(ErrorKind::ElementType),
        });
    }
    let Some(variable) = parameter.variable else { return Ok(()) };
    let (first, first_name) = *variables.entry(variable).or_insert((dtype, parameter.name));
    if first == dtype {
        return Ok(());
    }
    let message = format!("must have the element type of `{first_name}`, {first}");
    let error = OpError::new(ErrorKind::ElementType, Some(parameter.name), message);
    Err(error.found(format!("found {}", describe_operand(operand))))
}

fn describe(given: &Given) -> String {
    match given {
        Given::Tuple(items) => format!("a tuple of {}", items.len()),
        Given::One(operand) => describe_operand(operand),
    }
}

/// A type as people think of it: that of one value is a scalar's in either dialect.
fn describe_operand(operand: &Operand) -> String {
    if operand.is_state {
        return "a state".to_string();
    }
    if operand.is_list {
        return operand.held_type().to_string();
    }
    if operand.rank() == 0 { format!("a scalar {}", operand.dtype()) } else { operand.ty.to_string() }
}
