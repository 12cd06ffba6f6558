//! Programs into messages.

use std::collections::{BTreeMap, HashMap};

use anemone_mil::program::{Argument, Attributes, Block, Function, Op, OpId, Program, ValueId};

use super::{MAX_DEPTH, ProgramError, Result, opset_name, types, values};
use crate::proto::mil::{self as proto, BindingKind};

/// How many levels a function's attributes, inputs and block are below the program, with those of the maps' entries.
const ATTRIBUTE_OF_PROGRAM: usize = 2;
const ATTRIBUTE_OF_FUNCTION: usize = 4;
const INPUT_OF_FUNCTION: usize = 3;
const BODY: usize = 4;

/// The message of a program.
pub(super) fn program(program: &Program) -> Result<proto::Program> {
    let attributes = attributes(&program.attributes, ATTRIBUTE_OF_PROGRAM);
    let mut message = proto::Program {
        version: 1,
        attributes: attributes.map_err(|error| error.within(|| "the program".to_string()))?,
        ..proto::Program::default()
    };
    for function in &program.functions {
        let inside = |error: ProgramError| error.within(|| format!("the function `{}`", function.name));
        let written = Writer { function, bound: HashMap::new() }.write().map_err(inside)?;
        if message.functions.insert(function.name.clone(), written).is_some() {
            return Err(inside(ProgramError::new("its name is given twice")));
        }
    }
    Ok(message)
}

fn attributes(attributes: &Attributes, depth: usize) -> Result<BTreeMap<String, proto::Value>> {
    let encoded = attributes.iter().map(|(name, literal)| {
        let value = values::encode(literal, depth);
        Ok((name.to_string(), value.map_err(|error| error.within(|| format!("the attribute `{name}`")))?))
    });
    encoded.collect()
}

/// A function that is being written.
struct Writer<'a> {
    function: &'a Function,
    /// The values that names mean at this place.
    bound: HashMap<&'a str, ValueId>,
}

/// The bindings that those of a block stand in the place of, in their order.
type Replaced<'a> = Vec<(&'a str, Option<ValueId>)>;

impl<'a> Writer<'a> {
    fn write(mut self) -> Result<proto::Function> {
        let function = self.function;
        let opset = opset_name(function.opset)?;
        let mut replaced = Replaced::new();
        let inputs = self.bind(&function.body.inputs, INPUT_OF_FUNCTION, &mut replaced)?;
        let body = Block { inputs: Vec::new(), ..function.body.clone() };
        Ok(proto::Function {
            inputs,
            opset: opset.to_string(),
            block_specializations: BTreeMap::from([(opset.to_string(), self.block(&body, BODY)?)]),
            attributes: attributes(&function.attributes, ATTRIBUTE_OF_FUNCTION)?,
        })
    }

    /// The messages for values that are bound here, `depth` levels below the program.
    fn bind(
        &mut self,
        ids: &[ValueId],
        depth: usize,
        replaced: &mut Replaced<'a>,
    ) -> Result<Vec<proto::NamedValueType>> {
        let mut messages = Vec::with_capacity(ids.len());
        for &id in ids {
            let value = self.function.values.get(id.index()).ok_or_else(no_such_value)?;
            let ty = types::encode(&value.ty, depth + 1);
            let ty = ty.map_err(|error| error.within(|| format!("the type of `{}`", value.name)))?;
            messages.push(proto::NamedValueType { name: value.name.clone(), ty: Some(ty) });
            replaced.push((&value.name, self.bound.insert(&value.name, id)));
        }
        Ok(messages)
    }

    /// The name of a value, if it means that value here.
    fn name(&self, id: ValueId) -> Result<String> {
        let value = self.function.values.get(id.index()).ok_or_else(no_such_value)?;
        match self.bound.get(value.name.as_str()) {
            Some(&bound) if bound == id => Ok(value.name.clone()),
            Some(_) => Err(ProgramError::new(format!("`{}` is bound again before it is read", value.name))),
            None => Err(ProgramError::new(format!("`{}` is read where nothing has bound it", value.name))),
        }
    }

    /// The message of a block, `depth` levels below the program.
    fn block(&mut self, block: &Block, depth: usize) -> Result<proto::Block> {
        let mut replaced = Replaced::new();
        let inputs = self.bind(&block.inputs, depth + 1, &mut replaced)?;
        let mut operations = Vec::with_capacity(block.ops.len());
        for &id in &block.ops {
            operations.push(self.op(id, depth + 1, &mut replaced)?);
        }
        let outputs = block.outputs.iter().map(|&id| self.name(id)).collect::<Result<_>>()?;
        for (name, before) in replaced.into_iter().rev() {
            match before {
                Some(before) => self.bound.insert(name, before),
                None => self.bound.remove(name),
            };
        }
        Ok(proto::Block { inputs, outputs, operations, ..proto::Block::default() })
    }

    fn op(&mut self, id: OpId, depth: usize, replaced: &mut Replaced<'a>) -> Result<proto::Operation> {
        let function = self.function;
        let op =
            function.ops.get(id.index()).ok_or_else(|| ProgramError::new("an op that does not exist"))?;
        self.op_unnamed(op, depth, replaced).map_err(|error| {
            error.within(|| match op.results.first().and_then(|id| function.values.get(id.index())) {
                Some(value) => format!("the op `{}` that gives `{}`", op.name, value.name),
                None => format!("an op `{}`", op.name),
            })
        })
    }

    fn op_unnamed(
        &mut self,
        op: &'a Op,
        depth: usize,
        replaced: &mut Replaced<'a>,
    ) -> Result<proto::Operation> {
        if depth > MAX_DEPTH {
            return Err(types::too_deep());
        }
        if let Some(opset) = op.opset.filter(|&opset| opset != self.function.opset) {
            return Err(ProgramError::new(format!(
                "its own opset, {opset}, has no place in the protobuf form"
            )));
        }
        let arguments = op.arguments.iter().map(|(name, argument)| {
            let argument = self.argument(argument, depth + 2);
            Ok((
                name.to_string(),
                argument.map_err(|error| error.within(|| format!("the argument `{name}`")))?,
            ))
        });
        Ok(proto::Operation {
            kind: op.name.clone(),
            inputs: arguments.collect::<Result<_>>()?,
            attributes: attributes(&op.attributes, depth + 2)?,
            blocks: op.blocks.iter().map(|block| self.block(block, depth + 1)).collect::<Result<_>>()?,
            outputs: self.bind(&op.results, depth + 1, replaced)?,
        })
    }

    fn argument(&self, argument: &Argument, depth: usize) -> Result<proto::Argument> {
        let binding = |item: &Argument| {
            let kind = match item {
                Argument::Value(id) => BindingKind::Name(self.name(*id)?),
                Argument::Literal(literal) => BindingKind::Value(values::encode(literal, depth + 2)?),
                Argument::Tuple(_) => return Err(ProgramError::new("a tuple inside a tuple of arguments")),
            };
            Ok(proto::Binding { binding: Some(kind) })
        };
        Ok(proto::Argument { arguments: argument.items().iter().map(binding).collect::<Result<_>>()? })
    }
}

fn no_such_value() -> ProgramError {
    ProgramError::new("a value that does not exist")
}
