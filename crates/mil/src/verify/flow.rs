//! The order of a function: every op stands in one place, every value is bound once, and used where it is seen.

use crate::error::{BlockPart, ErrorKind, FunctionPart, OpPart, Place};
use crate::ops::OpDef;
use crate::program::{Block, MAX_BLOCK_DEPTH, Op, OpId, ValueId};
use crate::types::Type;

use super::{CONST, FunctionCheck, count};

/// How a block's position turns into the places of its parts.
type Part<'a> = &'a dyn Fn(BlockPart) -> FunctionPart;

impl FunctionCheck<'_, '_> {
    /// Checks the whole function.
    pub(super) fn body(&mut self) {
        self.block(&self.function.body, 0, &|part| match part {
            BlockPart::Parameters | BlockPart::Outputs => FunctionPart::Name,
            BlockPart::Input(position) => FunctionPart::Input(position),
            BlockPart::InputName(position) => FunctionPart::InputName(position),
            BlockPart::Output(position) => FunctionPart::Output(position),
        });
    }

    /// Checks a block, around which there are `depth` others; gives whether it can yield what it does.
    fn block(&mut self, block: &Block, depth: usize, part: Part<'_>) -> bool {
        for (position, &input) in block.inputs.iter().enumerate() {
            self.define(input, part(BlockPart::InputName(position)));
        }
        for &id in &block.ops {
            let op = self.function.op(id);
            let operands_defined = self.check_uses(id, op);
            let blocks_sound = self.nested_blocks(id, op, depth);
            if op.name == CONST {
                self.constant(id, op);
            } else if operands_defined && blocks_sound {
                self.op(id, op);
            } else {
                self.doubt(op);
            }
            for (position, &result) in op.results.iter().enumerate() {
                self.define(result, FunctionPart::Op(id, OpPart::ResultName(position)));
            }
        }
        let mut sound = true;
        for (position, &output) in block.outputs.iter().enumerate() {
            sound &= self.output(output, part(BlockPart::Output(position)));
        }
        sound
    }

    /// Checks the blocks of an op; gives whether they can yield what they do.
    fn nested_blocks(&mut self, id: OpId, op: &Op, depth: usize) -> bool {
        if depth >= MAX_BLOCK_DEPTH && !op.blocks.is_empty() {
            let message = format!("blocks nest deeper than {MAX_BLOCK_DEPTH} levels");
            self.error(
                ErrorKind::Malformed,
                FunctionPart::Op(id, OpPart::Name),
                message,
                "one level too many",
            );
            return false;
        }
        let mut sound = true;
        for (index, nested) in op.blocks.iter().enumerate() {
            let outside = self.order.len();
            self.names.enter_block();
            sound &= self.block(nested, depth + 1, &|part| FunctionPart::Op(id, OpPart::Block(index, part)));
            self.names.leave_block();
            for id in self.order.drain(outside..) {
                self.defined.remove(&id);
                self.inner.insert(id);
            }
        }
        sound
    }

    /// Whether an op has the blocks that its row asks for, and no others; says so where not.
    pub(super) fn right_blocks(&mut self, id: OpId, op: &Op, row: &OpDef) -> bool {
        let wanted = row.blocks.map_or(0, |rules| rules.names.len());
        if op.blocks.len() == wanted {
            return true;
        }
        let at = op.blocks.len().min(wanted);
        let part = match op.blocks.get(at) {
            Some(_) => OpPart::Block(at, BlockPart::Parameters),
            None => OpPart::Name,
        };
        let (message, label) = match row.blocks {
            None => (format!("`{}` with a nested block", op.name), "this op takes no blocks".to_string()),
            Some(rules) => (
                format!("`{}` has {}: {}", op.name, count(wanted, "block"), rules.names.join(" and ")),
                format!("found {}", count(op.blocks.len(), "block")),
            ),
        };
        self.error(ErrorKind::NestedBlock, FunctionPart::Op(id, part), message, label);
        false
    }

    /// Binds a value.
    fn define(&mut self, id: ValueId, part: FunctionPart) {
        let function = self.function;
        let name = &function.value(id).name;
        if self.defined.contains(&id) || self.inner.contains(&id) {
            self.error(ErrorKind::Redefinition, part, format!("`{name}` is defined twice"), "defined before");
            return;
        }
        self.defined.insert(id);
        self.order.push(id);
        if let Some(error) = self.names.bind(name, Place::Function(self.index, part)) {
            self.errors.push(error);
        }
    }

    /// Whether a value can be an output; says so where not.
    fn output(&mut self, id: ValueId, part: FunctionPart) -> bool {
        let value = self.function.value(id);
        let name = &value.name;
        if self.inner.contains(&id) && !self.defined.contains(&id) {
            let message = format!("the output `{name}` belongs to a nested block");
            self.error(ErrorKind::UndefinedName, part, message, "not seen outside its block");
        } else if !self.defined.contains(&id) {
            let message = format!("nothing defines the output `{name}`");
            self.error(ErrorKind::UndefinedName, part, message, "not defined in this function");
        } else if let Type::State(_) = value.ty {
            let message = format!("the state `{name}` cannot be an output");
            let error =
                self.in_function(ErrorKind::OperandKind, part, message, "expected a tensor, found a state");
            self.errors.push(error.with_help("give a tensor that was read from the state"));
        } else {
            return true;
        }
        false
    }

    /// Whether all values that an op reads are seen by it.
    fn check_uses(&mut self, id: OpId, op: &Op) -> bool {
        let mut all_defined = true;
        for (position, (_, argument)) in op.arguments.iter().enumerate() {
            for value in argument.values() {
                if self.defined.contains(&value) {
                    continue;
                }
                all_defined = false;
                let name = &self.function.value(value).name;
                let (kind, message, label) = if self.inner.contains(&value) {
                    let message = format!("`{name}` belongs to a nested block");
                    (ErrorKind::UndefinedName, message, "not seen outside its block")
                } else {
                    let message = format!("`{name}` is used before it is defined");
                    (ErrorKind::UseBeforeDefinition, message, "not defined yet")
                };
                self.error(kind, FunctionPart::Op(id, OpPart::Argument(position)), message, label);
            }
        }
        all_defined
    }
}
