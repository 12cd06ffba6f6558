//! Arbitrary programs, with every type and every form of literal, drawn from a string of random bytes.

#![allow(clippy::unwrap_used)] // A failure here is a failure of the test.

use std::sync::Arc;

use anemone_mil::program::{
    Argument, Attributes, BlobReference, Block, Dialect, Function, Literal, LiteralValue, Named, Op, OpId,
    Program, ValueId, Version,
};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::text::{Comment, CommentPlace, Comments};
use anemone_mil::types::{DType, Dim, Opset, Shape, TensorType, Type};
use half::{bf16, f16};

/// Random choices; zeros once the bytes are used up, so that fewer bytes give a simpler program.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn bits(&mut self) -> u64 {
        (0..8).fold(0, |bits, _| bits << 8 | u64::from(self.byte()))
    }

    fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    fn name(&mut self, unique: usize) -> String {
        const FIRST: &[u8] = b"xyzABC_tfiwn";
        const MORE: &[u8] = b"ab0_@Z9";
        let mut name = String::from(char::from(FIRST[self.below(FIRST.len())]));
        for _ in 0..self.below(4) {
            name.push(char::from(MORE[self.below(MORE.len())]));
        }
        format!("{name}_{unique}")
    }

    fn string(&mut self) -> String {
        const CHARACTERS: [char; 16] =
            ['a', 'Z', '0', ' ', '"', '\\', '\n', '\r', '\t', '\0', 'é', '∂', '𝄞', '/', ';', '\u{85}'];
        (0..self.below(6)).map(|_| CHARACTERS[self.below(CHARACTERS.len())]).collect()
    }

    fn dtype(&mut self) -> DType {
        let all: Vec<DType> = DType::all().collect();
        all[self.below(all.len())]
    }

    fn dim(&mut self) -> Dim {
        if self.is_one_in(5) { Dim::Unknown } else { Dim::from(self.below(4)) }
    }

    fn shape(&mut self) -> Shape {
        Shape((0..self.below(5)).map(|_| self.dim()).collect())
    }

    fn dialect(&mut self) -> Dialect {
        if self.is_one_in(3) { Dialect::RankZero } else { Dialect::Scalar }
    }

    fn ty(&mut self, depth: usize) -> Type {
        match self.below(if depth < 4 { 9 } else { 2 }) {
            0 | 7 => Type::Tensor(TensorType { dtype: self.dtype(), shape: self.shape() }),
            1 | 8 => Type::Scalar(self.dtype()),
            2 => Type::List(Box::new(self.ty(depth + 1)), self.dim()),
            3 => Type::Tuple((0..self.below(4)).map(|_| self.ty(depth + 1)).collect()),
            4 => Type::Dict(Box::new(self.ty(depth + 1)), Box::new(self.ty(depth + 1))),
            5 => Type::State(Box::new(self.ty(depth + 1))),
            _ => Type::TensorBuffer {
                dtype: self.dtype(),
                shape: self.shape(),
                strides: (0..self.below(3)).map(|_| self.bits() as i64).collect(),
                interleave_factors: (0..self.below(3)).map(|_| self.below(3) as i64).collect(),
            },
        }
    }

    /// Values of an element type, NaN only as text writes it.
    fn data(&mut self, dtype: DType, count: usize) -> Data {
        let mut bits = || self.bits();
        let integer = |bits: u64| {
            let (least, most) = dtype.integer_range().unwrap();
            least + i128::from(bits) % (most - least + 1)
        };
        match Data::empty(dtype) {
            Data::F16(_) => {
                let canonical = |value: f16| if value.is_nan() { f16::NAN } else { value };
                Data::F16((0..count).map(|_| canonical(f16::from_bits(bits() as u16))).collect())
            }
            Data::Bf16(_) => {
                let canonical = |value: bf16| if value.is_nan() { bf16::NAN } else { value };
                Data::Bf16((0..count).map(|_| canonical(bf16::from_bits(bits() as u16))).collect())
            }
            Data::F32(_) => {
                let canonical = |value: f32| if value.is_nan() { f32::NAN } else { value };
                Data::F32((0..count).map(|_| canonical(f32::from_bits(bits() as u32))).collect())
            }
            Data::F64(_) => {
                let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
                Data::F64((0..count).map(|_| canonical(f64::from_bits(bits()))).collect())
            }
            Data::U8(_) if dtype == DType::Fp8E4M3FN => {
                let canonical = |value: u8| if value == 0xff { 0x7f } else { value };
                Data::U8((0..count).map(|_| canonical(bits() as u8)).collect())
            }
            Data::U8(_) if dtype == DType::Fp8E5M2 => {
                let canonical = |value: u8| if value & 0x7f > 0x7c { 0x7e } else { value };
                Data::U8((0..count).map(|_| canonical(bits() as u8)).collect())
            }
            Data::I8(_) => Data::I8((0..count).map(|_| integer(bits()) as i8).collect()),
            Data::I16(_) => Data::I16((0..count).map(|_| integer(bits()) as i16).collect()),
            Data::I32(_) => Data::I32((0..count).map(|_| integer(bits()) as i32).collect()),
            Data::I64(_) => Data::I64((0..count).map(|_| integer(bits()) as i64).collect()),
            Data::U8(_) => Data::U8((0..count).map(|_| integer(bits()) as u8).collect()),
            Data::U16(_) => Data::U16((0..count).map(|_| integer(bits()) as u16).collect()),
            Data::U32(_) => Data::U32((0..count).map(|_| integer(bits()) as u32).collect()),
            Data::U64(_) => Data::U64((0..count).map(|_| integer(bits()) as u64).collect()),
            Data::Bool(_) => Data::Bool((0..count).map(|_| bits() % 2 == 1).collect()),
            Data::String(_) => Data::String((0..count).map(|_| self.string()).collect()),
        }
    }

    fn tensor(&mut self, dtype: DType, shape: &Shape) -> LiteralValue {
        if self.is_one_in(8) {
            let (path, offset, dialect) = (self.string(), self.bits(), self.dialect());
            return LiteralValue::Blob(BlobReference { path, offset, dialect });
        }
        let mut lengths: Vec<usize> = Vec::new();
        for dim in &shape.0 {
            let length = match dim {
                Dim::Known(length) => *length as usize,
                // Text does not tell lengths within an empty dimension.
                Dim::Unknown if lengths.contains(&0) => 0,
                Dim::Unknown => self.below(4),
            };
            lengths.push(length);
        }
        let data = self.data(dtype, lengths.iter().product());
        LiteralValue::Tensor(Arc::new(Tensor::new(dtype, &lengths, data).unwrap()))
    }

    fn value(&mut self, ty: &Type) -> LiteralValue {
        match ty {
            Type::Scalar(dtype) => self.tensor(*dtype, &Shape::default()),
            Type::Tensor(TensorType { dtype, shape }) | Type::TensorBuffer { dtype, shape, .. } => {
                self.tensor(*dtype, shape)
            }
            Type::State(inner) => self.value(inner),
            Type::List(element, length) => {
                let length = length.known().map_or_else(|| self.below(3), |length| length as usize);
                LiteralValue::List((0..length).map(|_| self.value(element)).collect())
            }
            Type::Tuple(items) => LiteralValue::Tuple(items.iter().map(|item| self.value(item)).collect()),
            Type::Dict(key, value) => {
                let pairs = (0..self.below(4)).map(|_| (self.value(key), self.value(value)));
                LiteralValue::Dict(pairs.collect())
            }
        }
    }

    fn literal(&mut self) -> Literal {
        let ty = self.ty(0);
        let value = self.value(&ty);
        Literal { ty, value }
    }

    fn attributes(&mut self) -> Attributes {
        (0..self.below(3)).map(|index| (self.name(index), self.literal())).collect()
    }

    fn operand(&mut self, visible: &[ValueId]) -> Argument {
        if self.is_one_in(4) {
            Argument::Literal(self.literal())
        } else {
            Argument::Value(visible[self.below(visible.len())])
        }
    }

    fn argument(&mut self, visible: &[ValueId]) -> Argument {
        if self.is_one_in(5) {
            Argument::Tuple((0..1 + self.below(3)).map(|_| self.operand(visible)).collect())
        } else {
            self.operand(visible)
        }
    }

    /// A new value. Its name is none of those that are visible; values of blocks beside each other can share one.
    fn bind(&mut self, function: &mut Function, visible: &mut Vec<ValueId>) -> ValueId {
        let (name, ty) = (self.name(visible.len()), self.ty(0));
        let id = function.add_value(name, ty);
        visible.push(id);
        id
    }

    fn op(&mut self, function: &mut Function, visible: &mut Vec<ValueId>, depth: usize) -> OpId {
        let arguments: Named<Argument> =
            (0..self.below(5)).map(|index| (self.name(index), self.argument(visible))).collect();
        let op = Op {
            name: self.name(0),
            opset: self.is_one_in(6).then(|| self.opset()),
            arguments,
            attributes: self.attributes(),
            ..Op::default()
        };
        let id = function.add_op(op);
        if depth < 3 && self.is_one_in(5) {
            for _ in 0..1 + self.below(2) {
                let block = self.block(function, visible, depth + 1);
                function.ops[id.0 as usize].blocks.push(block);
            }
        }
        for _ in 0..self.below(4) {
            let result = self.bind(function, visible);
            function.ops[id.0 as usize].results.push(result);
        }
        id
    }

    fn block(&mut self, function: &mut Function, visible: &mut Vec<ValueId>, depth: usize) -> Block {
        let outside = visible.len();
        let inputs = (0..self.below(3)).map(|_| self.bind(function, visible)).collect();
        let ops = (0..self.below(4)).map(|_| self.op(function, visible, depth)).collect();
        let outputs = (0..self.below(3)).map(|_| visible[self.below(visible.len())]).collect();
        visible.truncate(outside);
        Block { inputs, ops, outputs }
    }

    fn opset(&mut self) -> Opset {
        Opset(15 + u16::from(self.byte()))
    }

    fn function(&mut self, index: usize) -> Function {
        let mut function = Function::new(self.name(index), self.opset());
        function.attributes = self.attributes();
        let mut visible = Vec::new();
        for _ in 0..1 + self.below(3) {
            let id = self.bind(&mut function, &mut visible);
            function.body.inputs.push(id);
        }
        for _ in 0..self.below(8) {
            let id = self.op(&mut function, &mut visible, 0);
            function.body.ops.push(id);
        }
        for _ in 0..1 + self.below(3) {
            function.body.outputs.push(visible[self.below(visible.len())]);
        }
        function
    }

    /// A program.
    pub fn program(&mut self) -> Program {
        let version = Version { major: u32::from(self.byte()), minor: u32::from(self.byte()) };
        let mut program = Program::new(version);
        program.attributes = self.attributes();
        program.functions = (0..self.below(3)).map(|index| self.function(index)).collect();
        program
    }

    fn comments_at(&mut self, place: CommentPlace, most: usize, comments: &mut Vec<Comment>) {
        for _ in 0..self.below(most + 1) {
            let text: String = self.string().chars().filter(|c| !"\n\r".contains(*c)).collect();
            comments.push(Comment { place, text: format!("//{text}").trim_end().to_string() });
        }
    }

    /// Comments of a program, in the order of its text.
    pub fn comments(&mut self, program: &Program) -> Comments {
        let mut comments = Vec::new();
        self.comments_at(CommentPlace::BeforeProgram, 2, &mut comments);
        for (index, function) in program.functions.iter().enumerate() {
            self.comments_at(CommentPlace::BeforeFunction(index), 2, &mut comments);
            self.comments_in((index, function), &function.body.ops, &mut comments);
            self.comments_at(CommentPlace::BeforeResults(index), 2, &mut comments);
        }
        self.comments_at(CommentPlace::BeforeFunction(program.functions.len()), 2, &mut comments);
        self.comments_at(CommentPlace::AfterProgram, 2, &mut comments);
        Comments(comments)
    }

    fn comments_in(
        &mut self,
        (index, function): (usize, &Function),
        ops: &[OpId],
        comments: &mut Vec<Comment>,
    ) {
        for &id in ops {
            self.comments_at(CommentPlace::BeforeOp(index, id), 2, comments);
            for (position, block) in function.op(id).blocks.iter().enumerate() {
                self.comments_at(CommentPlace::BeforeBlock(index, id, position), 2, comments);
                self.comments_in((index, function), &block.ops, comments);
                self.comments_at(CommentPlace::BeforeBlockResults(index, id, position), 2, comments);
            }
            self.comments_at(CommentPlace::AfterOp(index, id), 1, comments);
        }
    }
}
