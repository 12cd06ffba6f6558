//! Nested blocks that no text gives, as a faulty builder could make them: refused, whatever they are.

#![allow(clippy::unwrap_used, clippy::panic)]

use anemone_mil::error::ErrorKind;
use anemone_mil::program::{
    Argument, Block, Function, MAX_BLOCK_DEPTH, Named, Op, OpId, Program, ValueId, Version,
};
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::{text, verify};

fn function() -> (Function, ValueId) {
    let mut function = Function::new("main", Opset::IOS18);
    let x = function.add_value("x", TensorType::new(DType::Fp16, &[4]).into());
    function.body.inputs.push(x);
    function.body.outputs.push(x);
    (function, x)
}

fn value(function: &mut Function, name: &str) -> ValueId {
    function.add_value(name, TensorType::new(DType::Fp16, &[4]).into())
}

fn relu(function: &mut Function, x: ValueId, result: ValueId) -> OpId {
    let arguments: Named<Argument> = [("x", Argument::Value(x))].into_iter().collect();
    function.add_op(Op { name: "relu".to_string(), arguments, results: vec![result], ..Op::default() })
}

/// An op that no row knows, with these blocks.
fn choose(function: &mut Function, blocks: Vec<Block>) -> OpId {
    function.add_op(Op { name: "choose".to_string(), blocks, ..Op::default() })
}

/// The kinds of all errors but the one about `choose`.
fn refused(function: Function) -> Vec<ErrorKind> {
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function);
    // Each op once, at most as far to the right as its depth takes it.
    assert!(text::write(&program).len() < 1_000_000, "a faulty program is a long text");
    let errors = verify::verify(program).unwrap_err();
    let kinds = errors.listed().iter().map(|error| error.kind);
    kinds.filter(|&kind| kind != ErrorKind::UnknownOp).collect()
}

#[test]
fn a_block_in_itself() {
    let (mut function, _) = function();
    let block = Block { ops: vec![OpId(0), OpId(0)], ..Block::default() };
    let op = choose(&mut function, vec![block.clone(), block]);
    function.body.ops.push(op);
    assert_eq!(refused(function), [ErrorKind::Malformed]);
}

#[test]
fn an_op_in_two_blocks_each() {
    let (mut function, _) = function();
    let mut inner = choose(&mut function, vec![]);
    for _ in 0..MAX_BLOCK_DEPTH {
        let block = Block { ops: vec![inner], ..Block::default() };
        inner = choose(&mut function, vec![block.clone(), block]);
    }
    function.body.ops.push(inner);
    assert_eq!(refused(function), [ErrorKind::Malformed]);
}

#[test]
fn blocks_nest_as_deeply_as_text_allows() {
    for (depth, expected) in [(MAX_BLOCK_DEPTH, vec![]), (100_000, vec![ErrorKind::Malformed])] {
        let (mut function, _) = function();
        let mut inner = choose(&mut function, vec![]);
        for _ in 0..depth {
            inner = choose(&mut function, vec![Block { ops: vec![inner], ..Block::default() }]);
        }
        function.body.ops.push(inner);
        let mut program = Program::new(Version::V1_3);
        program.functions.push(function.clone());
        let read = text::parse(&text::write(&program)).unwrap().program;
        let ops = read.functions[0].ops.len();
        assert_eq!(ops, depth.min(MAX_BLOCK_DEPTH) + 1, "text has all levels that it allows");
        assert_eq!(refused(function), expected);
    }
}

#[test]
fn a_value_outside_its_block() {
    let (mut function, x) = function();
    let (y, z) = (value(&mut function, "y"), value(&mut function, "z"));
    let inner = relu(&mut function, x, y);
    let op = choose(&mut function, vec![Block { ops: vec![inner], outputs: vec![y], ..Block::default() }]);
    let outer = relu(&mut function, y, z);
    function.body.ops.extend([op, outer]);
    function.body.outputs = vec![z, y];
    assert_eq!(refused(function), [ErrorKind::UndefinedName; 2]);
}

#[test]
fn a_value_of_two_blocks() {
    let (mut function, x) = function();
    let y = value(&mut function, "y");
    let blocks = [relu(&mut function, x, y), relu(&mut function, x, y)].map(|op| Block {
        ops: vec![op],
        outputs: vec![y],
        ..Block::default()
    });
    let op = choose(&mut function, blocks.to_vec());
    function.body.ops.push(op);
    assert_eq!(refused(function), [ErrorKind::Redefinition, ErrorKind::UndefinedName]);
}

#[test]
fn names_are_found_outside_blocks_only() {
    let (mut function, x) = function();
    let (inner, outer) = (value(&mut function, "y"), value(&mut function, "y"));
    let nested = relu(&mut function, x, inner);
    let op = choose(&mut function, vec![Block { ops: vec![nested], ..Block::default() }]);
    let last = relu(&mut function, x, outer);
    function.body.ops.extend([op, last]);
    assert_eq!(function.value_named("y"), Some(outer));
    assert_eq!(function.value_named("x"), Some(x));
    assert_eq!(refused(function), []);
}
