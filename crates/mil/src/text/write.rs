//! Programs as text, in the style of Apple's compiler.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::number::{write_decimal, write_hexadecimal, write_integer, write_signed};
use super::{CommentPlace, Comments};
use crate::program::{
    Argument, Attributes, BlobReference, Block, Function, Literal, LiteralValue, MAX_BLOCK_DEPTH, Op, OpId,
    Program, ValueId,
};
use crate::tensor::{Data, Tensor, fp8_to_f64};
use crate::types::{DType, Dim, Type};

/// Columns that things begin at.
const FUNCTION_INDENT: usize = 4;
const RESULTS_INDENT: usize = 8;
const STATEMENT_INDENT: usize = 12;

/// How far a nested block stands behind its op's beginning, and its statements behind its own.
const BLOCK_INDENT: usize = 4;

pub(super) fn write(program: &Program, comments: &Comments) -> String {
    let mut by_place: HashMap<CommentPlace, Vec<&str>> = HashMap::new();
    for comment in &comments.0 {
        by_place.entry(comment.place).or_default().push(&comment.text);
    }
    let mut writer = Writer { out: String::new(), comments: by_place, written_blocks: HashSet::new() };
    writer.program(program);
    writer.out
}

struct Writer<'a> {
    out: String,
    comments: HashMap<CommentPlace, Vec<&'a str>>,
    /// The ops of the function whose blocks have been written.
    written_blocks: HashSet<OpId>,
}

/// The structure of a program.
impl Writer<'_> {
    fn program(&mut self, program: &Program) {
        self.comments_at(CommentPlace::BeforeProgram, 0);
        self.display(format_args!("program({})\n", program.version));
        if !program.attributes.is_empty() {
            self.attributes(&program.attributes);
            self.push("\n");
        }
        self.push("{\n");
        for (index, function) in program.functions.iter().enumerate() {
            self.comments_at(CommentPlace::BeforeFunction(index), FUNCTION_INDENT);
            self.function(index, function);
        }
        self.comments_at(CommentPlace::BeforeFunction(program.functions.len()), FUNCTION_INDENT);
        self.push("}\n");
        self.comments_at(CommentPlace::AfterProgram, 0);
    }

    fn function(&mut self, index: usize, function: &Function) {
        self.indent(FUNCTION_INDENT);
        self.display(format_args!("func {}<{}>(", function.name, function.opset));
        self.bindings(function, &function.body.inputs);
        self.push(")");
        if !function.attributes.is_empty() {
            self.push(" ");
            self.attributes(&function.attributes);
        }
        self.push(" {\n");
        self.written_blocks.clear();
        self.statements((index, function), &function.body.ops, STATEMENT_INDENT);
        self.comments_at(CommentPlace::BeforeResults(index), STATEMENT_INDENT);
        self.indent(RESULTS_INDENT);
        self.push("} -> (");
        self.names(function, &function.body.outputs);
        self.push(");\n");
    }

    /// Statements, each on lines of its own.
    fn statements(&mut self, function: (usize, &Function), ops: &[OpId], indent: usize) {
        for id in ops {
            self.comments_at(CommentPlace::BeforeOp(function.0, *id), indent);
            self.indent(indent);
            self.op(function, *id, indent);
            self.comments_after(CommentPlace::AfterOp(function.0, *id));
            self.push("\n");
        }
    }

    /// A statement with its semicolon, which begins at column `indent`.
    fn op(&mut self, (index, function): (usize, &Function), id: OpId, indent: usize) {
        let Some(op) = function.ops.get(id.0 as usize) else { return };
        if !op.results.is_empty() {
            self.bindings(function, &op.results);
            self.push(" = ");
        }
        self.push(&op.name);
        if let Some(opset) = op.opset {
            self.display(format_args!("<{opset}>"));
        }
        self.push("(");
        self.arguments(function, op);
        self.push(")");
        if !op.attributes.is_empty() {
            self.attributes(&op.attributes);
        }
        // A malformed program could hold a block inside itself, or an op in the blocks of many.
        let is_sound = indent < STATEMENT_INDENT + 2 * BLOCK_INDENT * MAX_BLOCK_DEPTH;
        if !op.blocks.is_empty() && is_sound && self.written_blocks.insert(id) {
            for (position, block) in op.blocks.iter().enumerate() {
                self.block((index, function), (id, position), block, indent + BLOCK_INDENT);
            }
        }
        self.push(";");
    }

    /// A nested block of an op, which begins a line at column `indent`.
    fn block(
        &mut self,
        (index, function): (usize, &Function),
        (op, position): (OpId, usize),
        block: &Block,
        indent: usize,
    ) {
        self.push("\n");
        self.comments_at(CommentPlace::BeforeBlock(index, op, position), indent);
        self.indent(indent);
        self.push("(");
        self.bindings(function, &block.inputs);
        self.push(") {\n");
        self.statements((index, function), &block.ops, indent + BLOCK_INDENT);
        self.comments_at(CommentPlace::BeforeBlockResults(index, op, position), indent + BLOCK_INDENT);
        self.indent(indent);
        self.push("} -> (");
        self.names(function, &block.outputs);
        self.push(")");
    }

    /// `type name, type name`.
    fn bindings(&mut self, function: &Function, ids: &[ValueId]) {
        for (i, id) in ids.iter().enumerate() {
            self.separate(i);
            if let Some(value) = function.values.get(id.0 as usize) {
                self.ty(&value.ty);
                self.push(" ");
                self.push(&value.name);
            }
        }
    }

    fn names(&mut self, function: &Function, ids: &[ValueId]) {
        for (i, id) in ids.iter().enumerate() {
            self.separate(i);
            self.name(function, *id);
        }
    }

    fn name(&mut self, function: &Function, id: ValueId) {
        if let Some(value) = function.values.get(id.0 as usize) {
            self.push(&value.name);
        }
    }

    fn arguments(&mut self, function: &Function, op: &Op) {
        for (i, (name, argument)) in op.arguments.iter().enumerate() {
            self.separate(i);
            self.push(name);
            self.push(" = ");
            match argument {
                Argument::Tuple(items) => {
                    self.push("(");
                    for (i, item) in items.iter().enumerate() {
                        self.separate(i);
                        self.operand(function, item);
                    }
                    self.push(")");
                }
                operand => self.operand(function, operand),
            }
        }
    }

    fn operand(&mut self, function: &Function, operand: &Argument) {
        match operand {
            Argument::Value(id) => self.name(function, *id),
            Argument::Literal(literal) => self.literal(literal),
            // The data model rules out a tuple in a tuple.
            Argument::Tuple(_) => {}
        }
    }

    fn attributes(&mut self, attributes: &Attributes) {
        self.push("[");
        for (i, (name, literal)) in attributes.iter().enumerate() {
            self.separate(i);
            self.push(name);
            self.push(" = ");
            self.literal(literal);
        }
        self.push("]");
    }
}

/// Comments.
impl Writer<'_> {
    /// Comments on lines of their own.
    fn comments_at(&mut self, place: CommentPlace, indent: usize) {
        for text in self.comments.remove(&place).unwrap_or_default() {
            for line in text.lines() {
                self.indent(indent);
                self.comment_line(line);
                self.push("\n");
            }
        }
    }

    /// Comments behind a statement.
    fn comments_after(&mut self, place: CommentPlace) {
        if self.comments.is_empty() {
            return;
        }
        for text in self.comments.remove(&place).unwrap_or_default() {
            for line in text.lines() {
                self.push(" ");
                self.comment_line(line);
            }
        }
    }

    fn comment_line(&mut self, line: &str) {
        if !line.starts_with("//") {
            self.push("// ");
        }
        self.push(line.trim_end());
    }
}

/// Types and literals.
impl Writer<'_> {
    fn ty(&mut self, ty: &Type) {
        match ty {
            Type::Scalar(dtype) => self.push(dtype.name()),
            Type::Tensor(tensor) => {
                self.push("tensor<");
                self.push(tensor.dtype.name());
                self.push(", [");
                for (i, dim) in tensor.shape.0.iter().enumerate() {
                    self.separate(i);
                    match dim {
                        Dim::Known(length) => write_integer(&mut self.out, *length),
                        Dim::Unknown => self.push("?"),
                    }
                }
                self.push("]>");
            }
            other => self.display(format_args!("{other}")),
        }
    }

    fn literal(&mut self, literal: &Literal) {
        self.ty(&literal.ty);
        self.push("(");
        self.value(&literal.value, false);
        self.push(")");
    }

    /// A value; Apple's compiler writes fp64 as decimals inside a dictionary, and nowhere else.
    fn value(&mut self, value: &LiteralValue, in_dict: bool) {
        match value {
            LiteralValue::Tensor(tensor) => self.tensor(tensor, in_dict),
            LiteralValue::Blob(blob) => self.blob(blob),
            LiteralValue::List(items) => self.values("[", items, "]", in_dict),
            LiteralValue::Tuple(items) => self.values("(", items, ")", in_dict),
            LiteralValue::Dict(pairs) => {
                self.push("{");
                for (i, (key, value)) in pairs.iter().enumerate() {
                    self.separate(i);
                    self.push("{");
                    self.value(key, true);
                    self.push(", ");
                    self.value(value, true);
                    self.push("}");
                }
                self.push("}");
            }
        }
    }

    fn values(&mut self, open: &str, items: &[LiteralValue], close: &str, in_dict: bool) {
        self.push(open);
        for (i, item) in items.iter().enumerate() {
            self.separate(i);
            self.value(item, in_dict);
        }
        self.push(close);
    }

    fn blob(&mut self, blob: &BlobReference) {
        let (path, offset) =
            (blob.dialect.scalar_type(DType::String), blob.dialect.scalar_type(DType::UInt64));
        self.push("BLOBFILE(path = ");
        self.ty(&path);
        self.push("(");
        self.string(&blob.path);
        self.push("), offset = ");
        self.ty(&offset);
        self.push("(");
        write_integer(&mut self.out, blob.offset);
        self.push("))");
    }

    /// A tensor's elements, with one level of brackets per dimension.
    fn tensor(&mut self, tensor: &Tensor, in_dict: bool) {
        // Behind a dimension of length zero there are no elements to put brackets round.
        let shape = tensor.shape();
        let levels = shape.iter().position(|&length| length == 0).map_or(shape.len(), |zero| zero + 1);
        let shape = &shape[..levels];
        // Position along each dimension.
        let mut index = vec![0; levels];
        let mut flat = 0;
        self.repeat('[', levels);
        loop {
            if !tensor.is_empty() {
                self.element(tensor, flat, in_dict);
                flat += 1;
            }
            // Close the dimensions that end here, and step along the innermost that does not.
            let mut level = levels;
            while level > 0 && index[level - 1] + 1 >= shape[level - 1] {
                index[level - 1] = 0;
                level -= 1;
            }
            self.repeat(']', levels - level);
            if level == 0 {
                return;
            }
            index[level - 1] += 1;
            self.push(", ");
            self.repeat('[', levels - level);
        }
    }

    fn element(&mut self, tensor: &Tensor, at: usize, in_dict: bool) {
        let out = &mut self.out;
        match tensor.data() {
            Data::F16(values) => write_hexadecimal(out, values[at].to_f64()),
            Data::F32(values) => write_hexadecimal(out, f64::from(values[at])),
            Data::F64(values) if in_dict => write_decimal(out, values[at]),
            Data::F64(values) => write_hexadecimal(out, values[at]),
            Data::Bf16(values) => write_hexadecimal(out, values[at].to_f64()),
            Data::I8(values) => write_signed(out, i64::from(values[at])),
            Data::I16(values) => write_signed(out, i64::from(values[at])),
            Data::I32(values) => write_signed(out, i64::from(values[at])),
            Data::I64(values) => write_signed(out, values[at]),
            Data::U8(values) => match fp8_to_f64(tensor.dtype(), values[at]) {
                Some(value) => write_hexadecimal(out, value),
                None => write_integer(out, u64::from(values[at])),
            },
            Data::U16(values) => write_integer(out, u64::from(values[at])),
            Data::U32(values) => write_integer(out, u64::from(values[at])),
            Data::U64(values) => write_integer(out, values[at]),
            Data::Bool(values) => out.push_str(if values[at] { "true" } else { "false" }),
            Data::String(values) => self.string(&values[at]),
        }
    }

    fn string(&mut self, text: &str) {
        self.push("\"");
        let mut rest = text;
        while let Some(at) = rest.find(['"', '\\', '\n', '\r', '\t']) {
            self.push(&rest[..at]);
            self.push(match rest.as_bytes()[at] {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                _ => "\\t",
            });
            rest = &rest[at + 1..];
        }
        self.push(rest);
        self.push("\"");
    }
}

/// Characters.
impl Writer<'_> {
    fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn repeat(&mut self, character: char, times: usize) {
        self.out.extend(std::iter::repeat_n(character, times));
    }

    fn indent(&mut self, columns: usize) {
        self.repeat(' ', columns);
    }

    /// A comma before every item but the first.
    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.push(", ");
        }
    }

    fn display(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }
}
