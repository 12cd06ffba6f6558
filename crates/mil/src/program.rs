//! Programs as plain data: functions, blocks, operations and values.
//!
//! A function owns its values and operations in two arenas; everything refers to them by id. Nothing here
//! knows an op: an op is a name, named arguments and attributes. Where a program came from text, the places
//! of its parts in that text are kept beside it, not inside (see [`crate::error::Spans`]).

use std::fmt;
use std::sync::Arc;

use crate::tensor::{ScalarElement, Tensor};
use crate::types::{DType, Opset, Type};

mod edit;
mod free_names;
mod walk;

pub use edit::IdMap;
pub use free_names::FreeNames;
pub use walk::{LiteralPlace, Uses};

/// The version in `program(1.3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Before the point.
    pub major: u32,
    /// After the point.
    pub minor: u32,
}

impl Version {
    /// The version of opsets ios15 to ios17.
    pub const V1_0: Version = Version { major: 1, minor: 0 };
    /// The version of opsets from ios18 on.
    pub const V1_3: Version = Version { major: 1, minor: 3 };

    /// How this version writes scalars.
    pub fn dialect(self) -> Dialect {
        if self < Version::V1_3 { Dialect::RankZero } else { Dialect::Scalar }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How a program writes a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `tensor<int32, []>(1)`, program(1.0) on.
    RankZero,
    /// `int32(1)`, program(1.3) on.
    Scalar,
}

impl Dialect {
    /// The type that a single value of `dtype` has in this dialect.
    pub fn scalar_type(self, dtype: DType) -> Type {
        match self {
            Dialect::RankZero => Type::tensor(dtype, &[]),
            Dialect::Scalar => Type::Scalar(dtype),
        }
    }
}

/// A few named items in the order in which they were written; names are unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// Items whose names the caller knows to differ; in time linear in their number.
    pub fn from_unique(items: Vec<(String, T)>) -> Self {
        Named(items)
    }

    /// The item with this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, item)| item)
    }

    /// The item with this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, item)| item)
    }

    /// The position of the item with this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(key, _)| key == name)
    }

    /// Names and items in order, the items to be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut T)> {
        self.0.iter_mut().map(|(name, item)| (name.as_str(), item))
    }

    /// Takes the item with this name out.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        self.position(name).map(|position| self.0.remove(position).1)
    }

    /// Appends an item, or replaces the one that has this name; returns the replaced one.
    pub fn insert(&mut self, name: impl Into<String>, item: T) -> Option<T> {
        let name = name.into();
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => Some(std::mem::replace(old, item)),
            None => {
                self.0.push((name, item));
                None
            }
        }
    }

    /// Sorts by name, in ASCII order, as Apple's compiler prints.
    pub fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// Names and items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, item)| (name.as_str(), item))
    }

    /// The item at a position, with its name.
    pub fn at(&self, position: usize) -> Option<(&str, &T)> {
        self.0.get(position).map(|(name, item)| (name.as_str(), item))
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> IntoIterator for Named<T> {
    type Item = (String, T);
    type IntoIter = std::vec::IntoIter<(String, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T, N: Into<String>> FromIterator<(N, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(items: I) -> Self {
        let mut named = Named::default();
        for (name, item) in items {
            named.insert(name, item);
        }
        named
    }
}

/// The attributes of a program, a function or an op.
pub type Attributes = Named<Literal>;

/// A literal: a type and a value of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// The written type; a `?` in it may stand for what the value makes plain.
    pub ty: Type,
    /// The value.
    pub value: LiteralValue,
}

/// The value of a literal. Inside lists, tuples and dictionaries values carry no type of their own; they
/// take it from the literal's.
#[derive(Debug, Clone, PartialEq)]
pub enum LiteralValue {
    /// A scalar's or tensor's values, strings and booleans included.
    Tensor(Arc<Tensor>),
    /// A tensor's values, kept in a blob file.
    Blob(BlobReference),
    /// A list's items.
    List(Vec<LiteralValue>),
    /// A tuple's items.
    Tuple(Vec<LiteralValue>),
    /// A dictionary's pairs, in the order written.
    Dict(Vec<(LiteralValue, LiteralValue)>),
}

/// `BLOBFILE(path = …, offset = …)`: where a blob file keeps a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BlobReference {
    /// The path, where `@model_path` stands for the program's directory.
    pub path: String,
    /// Position of the blob's metadata record in the file, in bytes.
    pub offset: u64,
    /// How the path and the offset are written.
    pub dialect: Dialect,
}

impl Literal {
    /// A single value, typed as the dialect types scalars.
    pub fn scalar<T: ScalarElement>(dialect: Dialect, value: T) -> Literal {
        Literal {
            ty: dialect.scalar_type(T::DTYPE),
            value: LiteralValue::Tensor(Arc::new(Tensor::scalar(value))),
        }
    }

    /// A string, typed as the dialect types scalars.
    pub fn string(dialect: Dialect, value: impl Into<String>) -> Literal {
        Literal::scalar(dialect, value.into())
    }

    /// A tensor; one of rank 0 is typed as the dialect types scalars.
    pub fn tensor(dialect: Dialect, tensor: impl Into<Arc<Tensor>>) -> Literal {
        let tensor = tensor.into();
        let ty = if tensor.shape().is_empty() {
            dialect.scalar_type(tensor.dtype())
        } else {
            Type::Tensor(tensor.ty())
        };
        Literal { ty, value: LiteralValue::Tensor(tensor) }
    }

    /// The tensor, unless the value is in a blob file or composite.
    pub fn as_tensor(&self) -> Option<&Arc<Tensor>> {
        match &self.value {
            LiteralValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The string of a string scalar.
    pub fn as_str(&self) -> Option<&str> {
        match self.as_tensor()?.as_slice::<String>()? {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// A value's index in [`Function::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// An op's index in [`Function::ops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u32);

impl ValueId {
    /// The index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl OpId {
    /// The index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Something with a name and a type that ops read: a function's input or an op's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The name that text binds; of the values that an op sees, no two have the same.
    pub name: String,
    /// The declared type.
    pub ty: Type,
}

/// What an op is given for one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// A value.
    Value(ValueId),
    /// A constant written in place.
    Literal(Literal),
    /// Several values or constants, in parentheses; tuples do not nest.
    Tuple(Vec<Argument>),
}

impl Argument {
    /// The argument itself, or what stands in a tuple's parentheses.
    pub fn items(&self) -> &[Argument] {
        match self {
            Argument::Tuple(items) => items,
            single => std::slice::from_ref(single),
        }
    }

    /// As [`Argument::items`], to be changed.
    pub fn items_mut(&mut self) -> &mut [Argument] {
        match self {
            Argument::Tuple(items) => items,
            single => std::slice::from_mut(single),
        }
    }

    /// The values that this argument reads.
    pub fn values(&self) -> impl Iterator<Item = ValueId> {
        self.items().iter().filter_map(|item| match item {
            Argument::Value(id) => Some(*id),
            _ => None,
        })
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Op {
    /// The op's name, such as `conv`.
    pub name: String,
    /// An opset written on this op, `conv<ios17>`, which stands in for the function's.
    pub opset: Option<Opset>,
    /// Arguments in the order written.
    pub arguments: Named<Argument>,
    /// Attributes in the order written.
    pub attributes: Attributes,
    /// The values that the op binds; none for `write_state`.
    pub results: Vec<ValueId>,
    /// Nested blocks, as `cond` and `while_loop` have.
    pub blocks: Vec<Block>,
}

/// Blocks nest no deeper than this in any text and in any verified program.
pub const MAX_BLOCK_DEPTH: usize = 64;

/// A sequence of ops with inputs and outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    /// Values that the block is entered with; a function's body has the function's inputs.
    pub inputs: Vec<ValueId>,
    /// Ops in order of execution.
    pub ops: Vec<OpId>,
    /// Values that the block yields.
    pub outputs: Vec<ValueId>,
}

/// A function.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// The name, such as `main`.
    pub name: String,
    /// The opset that the function is written in.
    pub opset: Opset,
    /// Attributes in the order written.
    pub attributes: Attributes,
    /// Every value of the function, nested blocks included.
    pub values: Vec<Value>,
    /// Every op of the function, nested blocks included.
    pub ops: Vec<Op>,
    /// The body: inputs, ops and outputs of the function.
    pub body: Block,
}

impl Function {
    /// A function without inputs, ops or outputs.
    pub fn new(name: impl Into<String>, opset: Opset) -> Function {
        Function {
            name: name.into(),
            opset,
            attributes: Attributes::default(),
            values: Vec::new(),
            ops: Vec::new(),
            body: Block::default(),
        }
    }

    /// The value with this id.
    ///
    /// # Panics
    ///
    /// When the id is not of this function; a verified function holds no such id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// The op with this id.
    ///
    /// # Panics
    ///
    /// When the id is not of this function; a verified function holds no such id.
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[id.0 as usize]
    }

    /// The opset of an op: its own, or the function's.
    pub fn opset_of(&self, op: &Op) -> Opset {
        op.opset.unwrap_or(self.opset)
    }

    /// Adds a value to the arena.
    pub fn add_value(&mut self, name: impl Into<String>, ty: Type) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).unwrap_or(u32::MAX));
        self.values.push(Value { name: name.into(), ty });
        id
    }

    /// Adds an op to the arena, without placing it in a block.
    pub fn add_op(&mut self, op: Op) -> OpId {
        let id = OpId(u32::try_from(self.ops.len()).unwrap_or(u32::MAX));
        self.ops.push(op);
        id
    }

    /// The value that is named `name` outside all nested blocks: an input, or what an op of the body binds.
    pub fn value_named(&self, name: &str) -> Option<ValueId> {
        let ops = self.body.ops.iter().filter_map(|id| self.ops.get(id.0 as usize));
        let mut bound = self.body.inputs.iter().chain(ops.flat_map(|op| &op.results)).copied();
        bound.find(|id| self.values.get(id.0 as usize).is_some_and(|value| value.name == name))
    }
}

/// A program: a version, attributes, and functions.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The version that line 1 names.
    pub version: Version,
    /// Attributes such as `buildInfo`, in the order written.
    pub attributes: Attributes,
    /// Functions in the order written; names are unique.
    pub functions: Vec<Function>,
}

impl Program {
    /// A program without functions or attributes.
    pub fn new(version: Version) -> Program {
        Program { version, attributes: Attributes::default(), functions: Vec::new() }
    }

    /// The function with this name, with its position.
    pub fn function(&self, name: &str) -> Option<(usize, &Function)> {
        self.functions.iter().enumerate().find(|(_, function)| function.name == name)
    }
}
