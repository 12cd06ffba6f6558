//! Random sound programs: fragments of the case files put together, with blocks, `?`, dead code and repetitions.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_lm::random::Random;
use anemone_mil::bind::NAME_ATTRIBUTE;
use anemone_mil::program::{
    Argument, Block, Dialect, FreeNames, Function, Literal, LiteralValue, Op, OpId, Program, ValueId,
};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Dim, TensorType, Type};
use anemone_mil::verify::{CONST, verify};

use crate::execute::Tensors;
use crate::fragments::{Fragment, Fragments};

/// A program, and for each of its functions values for the inputs.
pub struct Sample {
    pub program: Program,
    pub inputs: Vec<Tensors>,
}

/// Program number `i`: its first function uses the op that is number `i` in the order of the case files.
///
/// An op may take a constant only where another operand is none, as `matmul` does; a program in which that went wrong is
/// made anew.
pub fn program(fragments: &Fragments, number: u64) -> Sample {
    let make = |stream| attempt(fragments, number, &mut Random::stream(number, stream));
    let is_sound = |sample: &Sample| verify(sample.program.clone()).is_ok();
    (0..5).map(make).find(is_sound).unwrap_or_else(|| make(0))
}

fn attempt(fragments: &Fragments, number: u64, random: &mut Random) -> Sample {
    let ops: Vec<&Vec<usize>> = fragments.by_op.values().collect();
    let of_op = ops[number as usize % ops.len()];
    let first = of_op[random.below(of_op.len())];
    let version = fragments.all[first].version;
    let mut sample = Sample { program: Program::new(version), inputs: Vec::new() };
    for index in 0..1 + random.below(3) {
        let first = if index == 0 { first } else { any_of_version(fragments, version, random) };
        let mut maker = Maker::new(format!("f{index}"), &fragments.all[first]);
        maker.function(fragments, first, random);
        sample.program.functions.push(maker.function);
        sample.inputs.push(maker.inputs);
    }
    if random.below(2) == 0 {
        forget_dimensions(&mut sample.program, random);
    }
    sample
}

fn any_of_version(
    fragments: &Fragments,
    version: anemone_mil::program::Version,
    random: &mut Random,
) -> usize {
    loop {
        let index = random.below(fragments.all.len());
        if fragments.all[index].version == version {
            return index;
        }
    }
}

/// Replaces dimensions by `?`, where the program stays sound.
fn forget_dimensions(program: &mut Program, random: &mut Random) {
    for index in 0..program.functions.len() {
        for value in 0..program.functions[index].values.len() {
            if random.below(3) > 0 {
                continue;
            }
            let before = program.functions[index].values[value].ty.clone();
            if let Type::Tensor(ty) = &mut program.functions[index].values[value].ty {
                ty.shape
                    .0
                    .iter_mut()
                    .for_each(|dim| *dim = if random.below(2) == 0 { Dim::Unknown } else { *dim });
            }
            if program.functions[index].values[value].ty != before && verify(program.clone()).is_err() {
                program.functions[index].values[value].ty = before;
            }
        }
    }
}

/// A function in the making.
struct Maker {
    function: Function,
    dialect: Dialect,
    inputs: Tensors,
    names: FreeNames,
    /// The values that the next op may read.
    seen: Vec<ValueId>,
}

impl Maker {
    fn new(name: String, like: &Fragment) -> Maker {
        Maker {
            function: Function::new(name, like.function.opset),
            dialect: like.version.dialect(),
            inputs: Tensors::new(),
            names: FreeNames::default(),
            seen: Vec::new(),
        }
    }

    fn function(&mut self, fragments: &Fragments, first: usize, random: &mut Random) {
        let version = fragments.all[first].version;
        let alike = &fragments.by_opset[&(version, self.function.opset)];
        let mut body = Vec::new();
        let mut outputs = Vec::new();
        let mut used = first;
        for _ in 0..2 + random.below(4) {
            let fragment = &fragments.all[used];
            match random.below(5) {
                0 => self.in_cond(fragment, random, &mut body, &mut outputs),
                1 => self.in_loop(fragment, random, &mut body, &mut outputs),
                _ => outputs.extend(self.place(fragment, random, &mut body)),
            }
            // The same again, to be computed once, or another.
            if random.below(3) > 0 {
                used = alike[random.below(alike.len())];
            }
        }
        // What is no output may be dead.
        let chosen: Vec<ValueId> = outputs.iter().copied().filter(|_| random.below(3) > 0).collect();
        self.function.body.outputs = if chosen.is_empty() { outputs } else { chosen };
        self.function.body.ops = body;
    }

    /// Adds the ops of a fragment to a block; gives its results.
    fn place(&mut self, fragment: &Fragment, random: &mut Random, block: &mut Vec<OpId>) -> Vec<ValueId> {
        let source = &fragment.function;
        let mut map = HashMap::new();
        for &input in &source.body.inputs {
            let value = source.value(input);
            let id = self.operand(&value.name, &value.ty, fragment.inputs.get(&value.name), random, block);
            map.insert(input, id);
        }
        let ops = self.copy_ops(source, &source.body, &mut map, random);
        block.extend(ops);
        source.body.outputs.iter().map(|output| map[output]).collect()
    }

    /// What stands for a fragment's input: a value of its type, a constant, or an input.
    fn operand(
        &mut self,
        name: &str,
        ty: &Type,
        value: Option<&Tensor>,
        random: &mut Random,
        block: &mut Vec<OpId>,
    ) -> ValueId {
        let Some(value) = value else { return self.input(name, ty.clone(), None) };
        let ty = settled(ty, value);
        let chained: Vec<ValueId> =
            self.seen.iter().copied().filter(|&id| self.function.value(id).ty == ty).collect();
        let is_float = value.dtype().is_float();
        match random.below(4) {
            // Integers and bools may mean places, which others need not be.
            0 | 1 if is_float && !chained.is_empty() => chained[random.below(chained.len())],
            2 => self.constant(name, ty, Arc::new(value.clone()), block),
            _ => self.input(name, ty, Some(value)),
        }
    }

    fn input(&mut self, name: &str, ty: Type, value: Option<&Tensor>) -> ValueId {
        let name = self.names.free(name);
        let id = self.function.add_value(name.clone(), ty);
        self.function.body.inputs.push(id);
        if let Some(value) = value {
            self.inputs.insert(name, value.clone());
            self.seen.push(id);
        }
        id
    }

    fn constant(&mut self, name: &str, ty: Type, value: Arc<Tensor>, block: &mut Vec<OpId>) -> ValueId {
        let name = self.names.free(name);
        let id = self.function.add_value(name.clone(), ty.clone());
        let literal = Literal { ty, value: LiteralValue::Tensor(value) };
        let attributes = [(NAME_ATTRIBUTE, Literal::string(self.dialect, name)), ("val", literal)];
        let op = Op {
            name: CONST.to_string(),
            attributes: attributes.into_iter().collect(),
            results: vec![id],
            ..Op::default()
        };
        block.push(self.function.add_op(op));
        id
    }

    /// Copies the ops of a block, which read what `map` says; some constants move into the arguments.
    fn copy_ops(
        &mut self,
        source: &Function,
        block: &Block,
        map: &mut HashMap<ValueId, ValueId>,
        random: &mut Random,
    ) -> Vec<OpId> {
        let mut literals: HashMap<ValueId, Literal> = HashMap::new();
        let mut ops = Vec::new();
        for &id in &block.ops {
            let mut op = source.op(id).clone();
            for nested in &mut op.blocks {
                nested.inputs.iter_mut().for_each(|input| *input = self.copy_value(source, *input, map));
                nested.ops = self.copy_ops(source, &nested.clone(), map, random);
                nested.outputs.iter_mut().for_each(|output| *output = map[output]);
            }
            if op.name == CONST
                && self.dialect == Dialect::Scalar
                && let Some(literal) = op.attributes.get("val")
                && random.below(3) == 0
            {
                literals.insert(op.results[0], literal.clone());
            }
            for (_, argument) in op.arguments.iter_mut() {
                for item in argument.items_mut() {
                    let Argument::Value(read) = item else { continue };
                    *item = match literals.get(read) {
                        Some(literal) => Argument::Literal(literal.clone()),
                        None => Argument::Value(map[read]),
                    };
                }
            }
            op.results.iter_mut().for_each(|result| *result = self.copy_value(source, *result, map));
            if let (Some(&result), Some(name)) = (op.results.first(), op.attributes.get_mut(NAME_ATTRIBUTE)) {
                *name = Literal::string(self.dialect, self.function.value(result).name.clone());
            }
            ops.push(self.function.add_op(op));
        }
        ops
    }

    fn copy_value(&mut self, source: &Function, id: ValueId, map: &mut HashMap<ValueId, ValueId>) -> ValueId {
        let value = source.value(id);
        let new = self.function.add_value(self.names.free(&value.name), value.ty.clone());
        map.insert(id, new);
        new
    }

    /// A cond whose blocks both hold the fragment; only the op itself is seen afterwards.
    fn in_cond(
        &mut self,
        fragment: &Fragment,
        random: &mut Random,
        body: &mut Vec<OpId>,
        outputs: &mut Vec<ValueId>,
    ) {
        let truth = Arc::new(Tensor::scalar(random.below(2) == 0));
        let ty = self.dialect.scalar_type(DType::Bool);
        let pred = match random.below(2) {
            0 => self.constant("go", ty, truth, body),
            _ => self.input("go", ty, Some(&truth)),
        };
        let blocks: Vec<Block> = (0..2).map(|_| self.block(fragment, random)).collect();
        let arguments = [("pred", Argument::Value(pred))].into_iter().collect();
        let results = self.results(&blocks[0].outputs.clone());
        outputs.extend(&results);
        let op = Op { name: "cond".to_string(), arguments, results, blocks, ..Op::default() };
        body.push(self.function.add_op(op));
    }

    /// The fragment as a block without inputs.
    fn block(&mut self, fragment: &Fragment, random: &mut Random) -> Block {
        let seen = self.seen.clone();
        let mut ops = Vec::new();
        let outputs = self.place(fragment, random, &mut ops);
        let inputs = self.function.body.inputs.clone();
        // What the block binds is not seen outside it.
        self.seen.retain(|id| seen.contains(id) || inputs.contains(id));
        Block { inputs: Vec::new(), ops, outputs }
    }

    /// A loop of two rounds that computes the fragment each time, and yields what the last round gave.
    fn in_loop(
        &mut self,
        fragment: &Fragment,
        random: &mut Random,
        body: &mut Vec<OpId>,
        outputs: &mut Vec<ValueId>,
    ) {
        let int = self.dialect.scalar_type(DType::Int32);
        let number = |value: i32| Arc::new(Tensor::scalar(value));
        let zero = self.constant("zero", int.clone(), number(0), body);
        let one = self.constant("one", int.clone(), number(1), body);
        let two = self.constant("two", int.clone(), number(2), body);
        let before = self.place(fragment, random, body);
        let types: Vec<Type> = before.iter().map(|&id| self.function.value(id).ty.clone()).collect();
        let parameters = |maker: &mut Maker| -> Vec<ValueId> {
            let mut ids = vec![maker.value("i", int.clone())];
            ids.extend(types.iter().map(|ty| maker.value("carried", ty.clone())));
            ids
        };
        let inputs = parameters(self);
        let go = self.value("go", self.dialect.scalar_type(DType::Bool));
        let less = self.binary("less", inputs[0], two, go);
        let condition = Block { inputs, ops: vec![less], outputs: vec![go] };
        let inputs = parameters(self);
        let mut round = self.block(fragment, random);
        let next = self.value("next", int.clone());
        round.ops.push(self.binary("add", inputs[0], one, next));
        round.outputs.insert(0, next);
        round.inputs = inputs;
        let given = std::iter::once(zero).chain(before).map(Argument::Value).collect();
        let arguments = [("loop_vars", Argument::Tuple(given))].into_iter().collect();
        let results = self.results(&round.outputs.clone());
        outputs.extend(&results);
        let blocks = vec![condition, round];
        let op = Op { name: "while_loop".to_string(), arguments, results, blocks, ..Op::default() };
        body.push(self.function.add_op(op));
    }

    fn value(&mut self, name: &str, ty: Type) -> ValueId {
        let name = self.names.free(name);
        self.function.add_value(name, ty)
    }

    fn binary(&mut self, name: &str, x: ValueId, y: ValueId, result: ValueId) -> OpId {
        let arguments = [("x", Argument::Value(x)), ("y", Argument::Value(y))].into_iter().collect();
        self.function.add_op(Op { name: name.to_string(), arguments, results: vec![result], ..Op::default() })
    }

    /// Values of the types of others.
    fn results(&mut self, like: &[ValueId]) -> Vec<ValueId> {
        let types: Vec<Type> = like.iter().map(|&id| self.function.value(id).ty.clone()).collect();
        types.into_iter().map(|ty| self.value("result", ty)).collect()
    }
}

/// A declared type with the dimensions that a value has.
fn settled(ty: &Type, value: &Tensor) -> Type {
    match ty {
        Type::Tensor(ty) => Type::Tensor(TensorType { dtype: ty.dtype, shape: value.ty().shape }),
        other => other.clone(),
    }
}
