//! Faults put into the case files of `tests/ops`, one at a time, for every parameter of every op: each is reported
//! as one error, of the right kind and at the right place.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;

use anemone_mil::error::{ErrorKind, FunctionPart, Location, OpPart, Place};
use anemone_mil::ops::{self, OpDef, OperandForm, ParameterDef};
use anemone_mil::program::{Argument, Dialect, Function, Literal, Named, Op, OpId, Program};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, Opset};
use anemone_mil::verify::verify;

#[test]
fn each_required_parameter_is_missed() {
    let mut tried = 0;
    each_use(&mut |case| {
        for parameter in case.row.parameters.iter().filter(|parameter| !parameter.optional) {
            let mut op = case.op().clone();
            op.arguments = without(&op.arguments, parameter.name);
            op.attributes = without(&op.attributes, parameter.name);
            let message = case.refused(op, ErrorKind::MissingParameter, OpPart::Name);
            assert!(message.contains(&format!("`{}`", parameter.name)), "{message}");
            tried += 1;
        }
    });
    assert!(tried > 100, "only {tried}");
}

#[test]
fn an_unknown_parameter_is_refused() {
    each_use(&mut |case| {
        let mut op = case.op().clone();
        op.arguments.insert("zzzzzzzz", Argument::Literal(case.string()));
        let last = OpPart::Argument(op.arguments.len() - 1);
        case.refused(op, ErrorKind::UnknownParameter, last);
    });
}

#[test]
fn a_wrong_element_type_is_refused() {
    each_argument(&mut |case, position, parameter| {
        // A row may take any element type, and judge it itself.
        if case.row.domain(parameter).is_none_or(|domain| domain.contains(DType::String)) {
            return;
        }
        let literal = match parameter.kind.rank {
            Some(1) => Literal::tensor(case.dialect, Tensor::vector(vec!["a".to_string()])),
            _ => case.string(),
        };
        let argument = match parameter.kind.form {
            OperandForm::Tensor => Argument::Literal(literal),
            OperandForm::Tuple => Argument::Tuple(vec![Argument::Literal(literal)]),
            OperandForm::State | OperandForm::List | OperandForm::TensorsAndLists => return,
        };
        case.refused(case.with(position, argument), ErrorKind::ElementType, OpPart::Argument(position));
    });
}

#[test]
fn a_value_of_another_form_is_refused() {
    each_argument(&mut |case, position, parameter| {
        let single = Argument::Literal(case.string());
        let wrong =
            if parameter.kind.form == OperandForm::Tensor { Argument::Tuple(vec![single]) } else { single };
        case.refused(case.with(position, wrong), ErrorKind::OperandKind, OpPart::Argument(position));
    });
}

#[test]
fn a_computed_value_for_a_constant_is_refused() {
    each_argument(&mut |case, position, parameter| {
        if !parameter.kind.constant {
            return;
        }
        let mut program = case.program.clone();
        let function = &mut program.functions[0];
        let given = match case.op().arguments.at(position) {
            Some((_, Argument::Value(id))) => function.value(*id).ty.clone(),
            Some((_, Argument::Literal(literal))) => literal.ty.clone(),
            _ => return,
        };
        let input = function.add_value("computed", given);
        function.body.inputs.push(input);
        function.ops[case.id.0 as usize] = case.with(position, Argument::Value(input));
        case.refused_program(program, ErrorKind::NotConstant, OpPart::Argument(position));
    });
}

/// One op in a case file, alone with its function.
struct Case {
    program: Program,
    id: OpId,
    row: &'static OpDef,
    dialect: Dialect,
    name: String,
}

impl Case {
    fn op(&self) -> &Op {
        self.program.functions[0].op(self.id)
    }

    fn string(&self) -> Literal {
        Literal::string(self.dialect, "a")
    }

    /// The op with another argument.
    fn with(&self, position: usize, argument: Argument) -> Op {
        let mut op = self.op().clone();
        let name = op.arguments.at(position).unwrap().0.to_string();
        op.arguments.insert(name, argument);
        op
    }

    /// Checks that the function with this op in place of its own has one error, and returns its message.
    fn refused(&self, op: Op, kind: ErrorKind, part: OpPart) -> String {
        let mut program = self.program.clone();
        program.functions[0].ops[self.id.0 as usize] = op;
        self.refused_program(program, kind, part)
    }

    fn refused_program(&self, program: Program, kind: ErrorKind, part: OpPart) -> String {
        let text = text::write(&program);
        let errors = verify(program).expect_err(&format!("{} is accepted\n{text}", self.name));
        let place = Location::Place(Place::Function(0, FunctionPart::Op(self.id, part)));
        let [error] = errors.listed() else { panic!("{}: {errors:#?}\n{text}", self.name) };
        assert_eq!((error.kind, error.location), (kind, place), "{}: {error}\n{text}", self.name);
        error.message.clone()
    }
}

/// Every use of an op in its case files.
fn each_use(check: &mut dyn FnMut(&Case)) {
    let mut names: Vec<&str> = ops::rows().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let mut tried = 0;
        for file in [format!("{name}.mil"), format!("{name}_1_0.mil")] {
            let path = common::data_dir("ops").join(&file);
            let Ok(source) = fs::read_to_string(&path) else { continue };
            let program = text::parse(&source).unwrap_or_else(|errors| panic!("{file}: {errors}")).program;
            for function in &program.functions {
                tried += each_use_in(&program, function, name, check);
            }
        }
        assert!(tried > 0, "no case of `{name}` in {}", common::data_dir("ops").display());
    }
}

fn each_use_in(program: &Program, function: &Function, name: &str, check: &mut dyn FnMut(&Case)) -> usize {
    let mut tried = 0;
    for (index, op) in function.ops.iter().enumerate().filter(|(_, op)| op.name == name) {
        let opset: Opset = op.opset.unwrap_or(function.opset);
        let mut alone = Program::new(program.version);
        alone.functions.push(function.clone());
        check(&Case {
            program: alone,
            id: OpId(index as u32),
            row: ops::lookup(name, opset).unwrap_or_else(|| panic!("no `{name}` in {opset}")),
            dialect: program.version.dialect(),
            name: format!("{name} in {}", function.name),
        });
        tried += 1;
    }
    tried
}

/// Every argument of every use of an op.
fn each_argument(check: &mut dyn FnMut(&Case, usize, &ParameterDef)) {
    let mut tried = 0;
    each_use(&mut |case| {
        for (position, (name, _)) in case.op().arguments.iter().enumerate() {
            check(case, position, case.row.parameter(name).unwrap());
            tried += 1;
        }
    });
    assert!(tried > 100, "only {tried}");
}

fn without<T: Clone>(items: &Named<T>, name: &str) -> Named<T> {
    items.iter().filter(|(other, _)| *other != name).map(|(name, item)| (name, item.clone())).collect()
}
