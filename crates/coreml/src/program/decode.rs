//! Messages into programs.

use std::collections::{BTreeMap, HashMap};

use anemone_mil::ops::{self, OperandForm};
use anemone_mil::program::{
    Argument, Attributes, Block, Dialect, Function, MAX_BLOCK_DEPTH, Named, Op, OpId, Program, ValueId,
    Version,
};
use anemone_mil::types::Opset;

use super::{Decoded, ProgramError, Result, opset_from_name, types, values};
use crate::proto::mil::{self as proto, BindingKind};

/// The program of a message.
pub(super) fn program(message: proto::Program) -> Result<Decoded> {
    if message.version != 1 {
        let version = message.version;
        return Err(ProgramError::new(format!(
            "programs of version {version} are not known, only those of version 1"
        ))
        .within(|| "the program".to_string()));
    }
    let mut left_out = Vec::new();
    if !message.doc_string.is_empty() {
        left_out.push("the program's documentation".to_string());
    }
    let opset = |function: &proto::Function| opset_from_name(&function.opset);
    let opsets =
        message.functions.iter().map(|(name, function)| opset(function).map_err(|error| inside(error, name)));
    let newest = opsets.collect::<Result<Vec<_>>>()?.into_iter().max();
    let version = if newest >= Some(Opset::IOS18) { Version::V1_3 } else { Version::V1_0 };
    let mut program = Program::new(version);
    let dialect = version.dialect();
    program.attributes = attributes(message.attributes, dialect, &mut left_out)
        .map_err(|error| error.within(|| "the program".to_string()))?;
    for (name, function) in message.functions {
        let reader = Reader {
            function: Function::new(name.clone(), opset(&function)?),
            dialect,
            bound: HashMap::new(),
            left_out: Vec::new(),
        };
        let (function, missed) = reader.read(function).map_err(|error| inside(error, &name))?;
        left_out.extend(missed.into_iter().map(|what| format!("{what}, in the function `{name}`")));
        program.functions.push(function);
    }
    left_out.dedup();
    Ok(Decoded { program, left_out })
}

fn inside(error: ProgramError, function: &str) -> ProgramError {
    error.within(|| format!("the function `{function}`"))
}

fn attributes(
    messages: BTreeMap<String, proto::Value>,
    dialect: Dialect,
    left_out: &mut Vec<String>,
) -> Result<Attributes> {
    let literals = messages.into_iter().map(|(name, value)| match values::decode(value, dialect, left_out) {
        Ok(literal) => Ok((name, literal)),
        Err(error) => Err(error.within(|| format!("the attribute `{name}`"))),
    });
    Ok(Named::from_unique(literals.collect::<Result<_>>()?))
}

/// A function that is being read.
struct Reader {
    function: Function,
    dialect: Dialect,
    /// The values that names mean at this place.
    bound: HashMap<String, ValueId>,
    left_out: Vec<String>,
}

/// The bindings that those of a block stand in the place of, in their order.
type Replaced = Vec<(String, Option<ValueId>)>;

impl Reader {
    fn read(mut self, message: proto::Function) -> Result<(Function, Vec<String>)> {
        self.function.attributes = attributes(message.attributes, self.dialect, &mut self.left_out)?;
        let mut specializations = message.block_specializations;
        let body = specializations.remove(&message.opset);
        let body = body
            .ok_or_else(|| ProgramError::new(format!("it has no block for its opset, {}", message.opset)))?;
        if let Some(opset) = specializations.keys().next() {
            self.left_out.push(format!("the block for another opset, {opset}"));
        }
        let mut replaced = Replaced::new();
        let inputs = self.bind(message.inputs, &mut replaced)?;
        if !body.inputs.is_empty() {
            return Err(ProgramError::new("its block has inputs of its own"));
        }
        let body = self.block(body, 0)?;
        self.function.body = Block { inputs, ..body };
        Ok((self.function, self.left_out))
    }

    /// Binds names to new values.
    fn bind(
        &mut self,
        messages: Vec<proto::NamedValueType>,
        replaced: &mut Replaced,
    ) -> Result<Vec<ValueId>> {
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            let ty = types::decode(message.ty.as_ref(), self.dialect)
                .map_err(|error| error.within(|| format!("the type of `{}`", message.name)))?;
            if message.name.is_empty() {
                return Err(ProgramError::new("a value without a name"));
            }
            let id = self.function.add_value(message.name.clone(), ty);
            let before = self.bound.insert(message.name.clone(), id);
            // Values are bound in the order of their ids, so these are bound at once.
            if before.is_some_and(|before| ids.first().is_some_and(|first| before >= *first)) {
                let name = message.name;
                return Err(ProgramError::new(format!("the name `{name}` is given to two values at once")));
            }
            replaced.push((message.name, before));
            ids.push(id);
        }
        Ok(ids)
    }

    /// A block, around which there are `depth` others. What it binds is not seen outside it.
    fn block(&mut self, message: proto::Block, depth: usize) -> Result<Block> {
        if depth > MAX_BLOCK_DEPTH {
            return Err(ProgramError::new(format!("blocks nest deeper than {MAX_BLOCK_DEPTH} levels")));
        }
        if !message.attributes.is_empty() {
            self.left_out.push("the attributes of a block".to_string());
        }
        let mut replaced = Replaced::new();
        let inputs = self.bind(message.inputs, &mut replaced)?;
        let mut ops = Vec::with_capacity(message.operations.len());
        for operation in message.operations {
            ops.push(self.op(operation, depth, &mut replaced)?);
        }
        let outputs = message.outputs.iter().map(|name| {
            self.bound.get(name).copied().ok_or_else(|| {
                ProgramError::new(format!("the output `{name}` of a block is a name that nothing binds"))
            })
        });
        let outputs = outputs.collect::<Result<_>>()?;
        for (name, before) in replaced.into_iter().rev() {
            match before {
                Some(before) => self.bound.insert(name, before),
                None => self.bound.remove(&name),
            };
        }
        Ok(Block { inputs, ops, outputs })
    }

    fn op(&mut self, message: proto::Operation, depth: usize, replaced: &mut Replaced) -> Result<OpId> {
        let named = message.outputs.first().map(|output| output.name.clone());
        let name = message.kind.clone();
        self.op_unnamed(message, depth, replaced).map_err(|error| {
            error.within(|| match named {
                Some(named) => format!("the op `{name}` that gives `{named}`"),
                None => format!("an op `{name}`"),
            })
        })
    }

    fn op_unnamed(
        &mut self,
        message: proto::Operation,
        depth: usize,
        replaced: &mut Replaced,
    ) -> Result<OpId> {
        let mut op = Op { name: message.kind, ..Op::default() };
        let row = ops::lookup(&op.name, self.function.opset);
        let arguments = message.inputs.into_iter().map(|(name, argument)| {
            let form = row.and_then(|row| row.parameter(&name)).map(|parameter| parameter.kind.form);
            match self.argument(argument, form) {
                Ok(argument) => Ok((name, argument)),
                Err(error) => Err(error.within(|| format!("the argument `{name}`"))),
            }
        });
        op.arguments = Named::from_unique(arguments.collect::<Result<_>>()?);
        op.attributes = attributes(message.attributes, self.dialect, &mut self.left_out)?;
        // Before those in its blocks, so that ids count in the order of the text.
        let id = self.function.add_op(op);
        for block in message.blocks {
            let block = self.block(block, depth + 1)?;
            self.function.ops[id.index()].blocks.push(block);
        }
        // The results are bound last: the op cannot read them.
        self.function.ops[id.index()].results = self.bind(message.outputs, replaced)?;
        Ok(id)
    }

    /// An argument. One of a single binding is a tuple only where the op's row says that the parameter takes one: the
    /// message does not tell.
    fn argument(&mut self, message: proto::Argument, form: Option<OperandForm>) -> Result<Argument> {
        let mut items = Vec::with_capacity(message.arguments.len());
        for binding in message.arguments {
            items.push(match binding.binding {
                Some(BindingKind::Name(name)) => match self.bound.get(&name) {
                    Some(&id) => Argument::Value(id),
                    None => {
                        return Err(ProgramError::new(format!(
                            "it is `{name}`, a name that nothing binds before"
                        )));
                    }
                },
                Some(BindingKind::Value(value)) => {
                    Argument::Literal(values::decode(value, self.dialect, &mut self.left_out)?)
                }
                None => return Err(ProgramError::new("it is neither a name nor a value")),
            });
        }
        let takes_tuple = matches!(form, Some(OperandForm::Tuple | OperandForm::TensorsAndLists));
        match items.pop() {
            Some(only) if items.is_empty() && !takes_tuple => Ok(only),
            last => {
                items.extend(last);
                Ok(Argument::Tuple(items))
            }
        }
    }
}
