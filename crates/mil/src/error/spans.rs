//! Where the parts of a program stand in the text that it was read from.

use super::{BlockPart, FunctionPart, OpPart, Place, Span};
use crate::program::{Function, IdMap, Program};

/// Where the parts of a program stand in its text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans {
    /// The version.
    pub version: Span,
    /// Program attributes.
    pub attributes: Vec<Span>,
    /// One entry per function.
    pub functions: Vec<FunctionSpans>,
}

/// Where the parts of a function stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionSpans {
    /// The name.
    pub name: Span,
    /// The opset.
    pub opset: Span,
    /// Inputs.
    pub inputs: Vec<BindingSpans>,
    /// Attributes.
    pub attributes: Vec<Span>,
    /// Outputs.
    pub outputs: Vec<Span>,
    /// Ops, by id.
    pub ops: Vec<OpSpans>,
}

/// Where a type and the name that is bound with it stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BindingSpans {
    /// From the type to the name.
    pub whole: Span,
    /// The name.
    pub name: Span,
}

/// Where the parts of an op stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpSpans {
    /// The op's name.
    pub name: Span,
    /// Arguments: name and operand.
    pub arguments: Vec<Span>,
    /// Attributes: name and literal.
    pub attributes: Vec<Span>,
    /// Results.
    pub results: Vec<BindingSpans>,
    /// Nested blocks.
    pub blocks: Vec<BlockSpans>,
}

/// Where the parts of a nested block stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockSpans {
    /// The parameters, in their parentheses.
    pub parameters: Span,
    /// Each parameter.
    pub inputs: Vec<BindingSpans>,
    /// Each output.
    pub outputs: Vec<Span>,
    /// The outputs, in their parentheses.
    pub results: Span,
}

impl Spans {
    /// Where a part of the program stands, if it came from text.
    pub fn find(&self, place: Place) -> Option<Span> {
        match place {
            Place::Version => Some(self.version),
            Place::ProgramAttribute(index) => self.attributes.get(index).copied(),
            Place::Function(index, part) => self.functions.get(index)?.find(part),
        }
    }
}

impl Spans {
    /// Where the parts of a program stand that a pass made of the one these spans are of. What is new stands where its
    /// function's name does.
    pub fn follow(&self, before: &Program, after: &Program, ids: &[IdMap]) -> Spans {
        let functions = before.functions.iter().zip(&after.functions).zip(&self.functions).zip(ids);
        Spans {
            version: self.version,
            attributes: self.attributes.clone(),
            functions: functions
                .map(|(((before, after), spans), ids)| spans.follow(before, after, ids))
                .collect(),
        }
    }
}

impl FunctionSpans {
    fn follow(&self, before: &Function, after: &Function, ids: &IdMap) -> FunctionSpans {
        let name = self.name;
        let new = OpSpans { name, ..OpSpans::default() };
        let mut ops = vec![new; after.ops.len()];
        for (spans, new) in self.ops.iter().zip(&ids.ops) {
            if let Some(new) = new {
                ops[new.index()].clone_from(spans);
            }
        }
        let mut inputs = vec![BindingSpans { whole: name, name }; after.body.inputs.len()];
        for (&input, &spans) in before.body.inputs.iter().zip(&self.inputs) {
            let position = after.body.inputs.iter().position(|&new| Some(new) == ids.value(input));
            if let Some(position) = position {
                inputs[position] = spans;
            }
        }
        let attribute = |(key, _)| {
            let position = before.attributes.position(key);
            position.and_then(|position| self.attributes.get(position)).copied().unwrap_or(name)
        };
        let attributes = after.attributes.iter().map(attribute).collect();
        FunctionSpans { name, opset: self.opset, inputs, attributes, outputs: self.outputs.clone(), ops }
    }

    fn find(&self, part: FunctionPart) -> Option<Span> {
        match part {
            FunctionPart::Name => Some(self.name),
            FunctionPart::Opset => Some(self.opset),
            FunctionPart::Input(index) => self.inputs.get(index).map(|input| input.whole),
            FunctionPart::InputName(index) => self.inputs.get(index).map(|input| input.name),
            FunctionPart::Attribute(index) => self.attributes.get(index).copied(),
            FunctionPart::Output(index) => self.outputs.get(index).copied(),
            FunctionPart::Op(op, part) => self.ops.get(op.0 as usize)?.find(part),
        }
    }
}

impl OpSpans {
    fn find(&self, part: OpPart) -> Option<Span> {
        match part {
            OpPart::Name => Some(self.name),
            OpPart::Argument(index) => self.arguments.get(index).copied(),
            OpPart::Attribute(index) => self.attributes.get(index).copied(),
            OpPart::Result(index) => self.results.get(index).map(|result| result.whole),
            OpPart::ResultName(index) => self.results.get(index).map(|result| result.name),
            OpPart::Block(index, part) => self.blocks.get(index)?.find(part),
        }
    }
}

impl BlockSpans {
    fn find(&self, part: BlockPart) -> Option<Span> {
        match part {
            BlockPart::Parameters => Some(self.parameters),
            BlockPart::Input(index) => self.inputs.get(index).map(|input| input.whole),
            BlockPart::InputName(index) => self.inputs.get(index).map(|input| input.name),
            BlockPart::Output(index) => self.outputs.get(index).copied(),
            BlockPart::Outputs => Some(self.results),
        }
    }
}
