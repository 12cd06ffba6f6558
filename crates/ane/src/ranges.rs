//! A bound on every value of a program: where no element can lie, no number can go wrong.
//!
//! Intervals are propagated from the inputs, whose ranges are stated or assumed ([`Assumptions`]), and from the values of
//! constants, through every op. A bound holds of the values that [the interpreter](anemone_mil::eval) computes, each
//! rounded once to its element type; it is not the least one, since what an op makes of its operands is bounded as if they
//! had nothing to do with each other (but for a few cases, such as `x − reduce_max(x)`). What an op without a rule
//! here gives is bounded by its type alone.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::bind::{self, Facts, Scope};
use anemone_mil::eval::Evaluation;
use anemone_mil::ops::{Accuracy, Given, OpDef, Operand, Operands, Row};
use anemone_mil::passes::FOLD_WEIGHTS_BUDGET;
use anemone_mil::program::{BlobReference, Block, Function, LiteralValue, Op, OpId, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::verify::{CONST, Verified};
use anemone_mil::weights::WeightSource;

mod assumptions;
mod elementwise;
mod findings;
mod interval;
mod moves;
mod products;
mod recurrent;
mod reduce;

pub use assumptions::{Assumptions, NamedRange, RangeError};
pub use findings::refine;
pub use interval::Interval;
pub use products::Product;

/// The bound of one value.
#[derive(Debug, Clone)]
struct Bound {
    range: Interval,
    /// The inputs whose ranges it follows from; of many, the first.
    because_of: Vec<ValueId>,
}

/// So many inputs are remembered as the reason for a bound.
const MOST_REASONS: usize = 8;

/// The bounds of a function's values.
#[derive(Debug, Clone)]
pub struct Bounds {
    values: Vec<Bound>,
    products: HashMap<OpId, Product>,
}

impl Bounds {
    /// What a value's elements lie in, NaN aside.
    ///
    /// # Panics
    ///
    /// When the value is not of this function.
    pub fn of(&self, value: ValueId) -> Interval {
        self.values[value.index()].range
    }

    /// The inputs whose ranges a bound follows from, the first eight; none where nothing that an input holds could make
    /// the value large, as what `sigmoid` gives.
    ///
    /// # Panics
    ///
    /// When the value is not of this function.
    pub fn because_of(&self, value: ValueId) -> &[ValueId] {
        &self.values[value.index()].because_of
    }

    /// What is known of the sums of products of an op, such as `matmul`.
    pub fn product(&self, op: OpId) -> Option<&Product> {
        self.products.get(&op)
    }
}

/// The bounds of the values of a function, by its position. Constants in blob files are read from `weights`; without it
/// they are bounded by their types.
///
/// # Panics
///
/// When the program has no such function.
pub fn bounds(
    verified: &Verified,
    function: usize,
    assumptions: &Assumptions,
    weights: Option<&dyn WeightSource>,
) -> Bounds {
    let of = &verified.program().functions[function];
    let facts = verified.facts(function);
    let whole = |index| {
        let dtype = facts.ty(ValueId(index as u32)).held_tensor().map(|ty| ty.dtype);
        Bound { range: dtype.map_or(Interval::ALL, Interval::of_type), because_of: Vec::new() }
    };
    let values = (0..of.values.len()).map(whole).collect();
    let constants = Constants { verified, index: function, function: of, facts, weights, givers: givers(of) };
    let bounds = Bounds { values, products: HashMap::new() };
    let mut walk = Walk { constants: &constants, bounds };
    walk.inputs(assumptions);
    walk.block(&of.body);
    walk.bounds
}

/// The op that gives each value; none gives an input.
fn givers(function: &Function) -> Vec<Option<OpId>> {
    let mut givers = vec![None; function.values.len()];
    for (id, op) in function.walk() {
        op.results.iter().for_each(|result| givers[result.index()] = Some(id));
    }
    givers
}

/// What operands are found in: the function's facts, with the constants that are not in its text.
struct Constants<'a> {
    verified: &'a Verified,
    index: usize,
    function: &'a Function,
    facts: &'a Facts,
    weights: Option<&'a dyn WeightSource>,
    givers: Vec<Option<OpId>>,
}

impl<'a> Constants<'a> {
    fn giver(&self, value: ValueId) -> Option<(OpId, &'a Op)> {
        self.givers[value.index()].map(|id| (id, self.function.op(id)))
    }

    fn row(&self, op: OpId) -> Option<&'static OpDef> {
        self.verified.row(self.index, op)
    }

    /// The value of a constant that a blob file keeps, or that another op decompresses.
    fn stored(&self, value: ValueId) -> Option<Arc<Tensor>> {
        let (id, op) = self.giver(value)?;
        if op.name == CONST {
            let LiteralValue::Blob(reference) = &op.attributes.get("val")?.value else { return None };
            return self.blob(reference, &self.facts.ty(value).as_tensor()?);
        }
        let row = self.row(id).filter(|row| row.constexpr)?;
        let operands = bind::operands(op, row, self).ok()?;
        let results = row.apply(&operands, &mut Evaluation::new(FOLD_WEIGHTS_BUDGET)).ok()?;
        op.results.iter().zip(results).find(|(id, _)| **id == value).map(|(_, tensor)| Arc::new(tensor))
    }
}

impl Scope for Constants<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let mut operand = self.facts.value(id)?;
        if operand.constant && operand.value.is_none() {
            operand.value = self.stored(id);
        }
        Some(operand)
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.weights?.load(reference, ty).ok().map(Arc::new)
    }
}

/// An op, with the bounds of what it is given.
pub(crate) struct Site<'a> {
    op: &'a Op,
    operands: &'a Operands<'a>,
    row: &'static OpDef,
    constants: &'a Constants<'a>,
    values: &'a [Bound],
    /// Whether operands count as if nothing bounded their magnitudes.
    stretched: bool,
}

impl Site<'_> {
    /// The op's parameters, where it is the op of this row.
    fn bound<R: Row>(&self) -> Option<R> {
        R::bind(self.operands, self.row.since).ok()
    }

    /// What an operand's elements lie in.
    fn range(&self, operand: &Operand) -> Interval {
        let range = match (operand.id, &operand.value) {
            _ if operand.is_state || operand.is_list => return Interval::of_type(operand.dtype()),
            (Some(id), _) => self.values[id.index()].range,
            (None, Some(tensor)) => Interval::of_tensor(tensor),
            (None, None) => Interval::of_type(operand.dtype()),
        };
        if self.stretched && !operand.constant { range.stretched() } else { range }
    }

    /// What is given for a parameter, unless that is a tuple.
    fn operand(&self, parameter: &str) -> Option<&Operand> {
        match self.operands.get(parameter)? {
            Given::One(operand) => Some(operand),
            Given::Tuple(_) => None,
        }
    }

    /// What the elements of a parameter lie in; of a tuple, those of all its items.
    fn parameter(&self, name: &str) -> Option<Interval> {
        match self.operands.get(name)? {
            Given::One(operand) => Some(self.range(operand)),
            Given::Tuple(operands) => {
                operands.iter().map(|operand| self.range(operand)).reduce(Interval::hull)
            }
        }
    }

    /// Whether two parameters are given the same value.
    fn same(&self, a: &str, b: &str) -> bool {
        let id = |parameter| self.operand(parameter).and_then(|operand| operand.id);
        id(a).is_some() && id(a) == id(b)
    }

    /// Whether what is given for `of` is a reduction by this op of what is given for `x`, whose dimensions it keeps, so
    /// that each element stands beside the reduction of its own group.
    fn reduces(&self, of: &str, reduction: &str, x: &str) -> bool {
        let id = |parameter| self.operand(parameter).and_then(|operand| operand.id);
        let (Some(reduced), Some(x)) = (id(of), id(x)) else { return false };
        let Some((_, op)) = self.constants.giver(reduced).filter(|(_, op)| op.name == reduction) else {
            return false;
        };
        let rank = |id| self.constants.facts.ty(id).as_tensor().map(|ty| ty.shape.rank());
        let aligned = rank(reduced) == rank(x) || rank(reduced) == Some(0);
        aligned && op.arguments.get("x").is_some_and(|argument| argument.values().eq([x]))
    }

    /// The element type of what the op computes with.
    fn dtype(&self) -> Option<DType> {
        self.operand("x").map(Operand::dtype)
    }
}

/// The propagation through one function.
struct Walk<'a> {
    constants: &'a Constants<'a>,
    bounds: Bounds,
}

impl Walk<'_> {
    fn inputs(&mut self, assumptions: &Assumptions) {
        let function = self.constants.function;
        for &id in &function.body.inputs {
            let ty = self.constants.facts.ty(id);
            let Some(TensorType { dtype, .. }) = ty.as_tensor().filter(|_| !matches!(ty, Type::State(_)))
            else {
                continue;
            };
            let (range, _) = assumptions.of(&function.value(id).name, dtype);
            self.bounds.values[id.index()] = Bound { range, because_of: vec![id] };
        }
    }

    fn block(&mut self, block: &Block) {
        block.ops.iter().for_each(|&id| self.op(id));
    }

    fn op(&mut self, id: OpId) {
        let op = self.constants.function.op(id);
        if op.name == CONST {
            return self.constant(op);
        }
        let Some(row) = self.constants.row(id) else { return };
        let Ok(operands) = bind::operands(op, row, self.constants) else { return };
        match &row.blocks {
            Some(rules) => self.nested(op, rules.loops, &operands),
            None if row.constexpr => self.constant(op),
            None => self.plain(id, op, row, &operands),
        }
    }

    /// What constants hold; their types' ranges where that is not known.
    fn constant(&mut self, op: &Op) {
        for &result in &op.results {
            if let Some(tensor) = self.constants.value(result).and_then(|operand| operand.value) {
                self.bounds.values[result.index()].range = Interval::of_tensor(&tensor);
            }
        }
    }

    fn plain(&mut self, id: OpId, op: &Op, row: &'static OpDef, operands: &Operands<'_>) {
        let site = |stretched| Site {
            op,
            operands,
            row,
            constants: self.constants,
            values: &self.bounds.values,
            stretched,
        };
        let product = products::product(&site(false));
        let range = match &product {
            Some(product) => Some(product.range),
            None => plain_range(&site(false)),
        };
        let Some(range) = range else { return };
        // Whether the operands' magnitudes matter; those of a product's do.
        let dtypes = op.results.iter().filter_map(|&result| self.constants.facts.ty(result).held_tensor());
        let dtype = dtypes.map(|ty| ty.dtype).next();
        let free = product.is_none() && plain_range(&site(true)).is_some_and(Interval::is_finite);
        let bounded = free && dtype.is_some_and(DType::is_float);
        let because_of = if bounded { Vec::new() } else { self.reasons(operands) };
        for &result in &op.results {
            let Some(ty) = self.constants.facts.ty(result).held_tensor() else { continue };
            let range = if row.accuracy == Accuracy::Exact {
                range
            } else {
                Interval::new(range.low - 1e-9 * range.low.abs(), range.high + 1e-9 * range.high.abs())
            };
            self.bounds.values[result.index()] =
                Bound { range: range.rounded(ty.dtype), because_of: because_of.clone() };
        }
        self.bounds.products.extend(product.map(|product| (id, product)));
    }

    /// The inputs that the bounds of these operands follow from.
    fn reasons(&self, operands: &Operands<'_>) -> Vec<ValueId> {
        let ids = operands.iter().filter_map(|operand| operand.id);
        self.union(ids)
    }

    fn union(&self, ids: impl Iterator<Item = ValueId>) -> Vec<ValueId> {
        let mut all: Vec<ValueId> = Vec::new();
        for reason in ids.flat_map(|id| &self.bounds.values[id.index()].because_of) {
            if all.len() < MOST_REASONS && !all.contains(reason) {
                all.push(*reason);
            }
        }
        all
    }

    /// An op with blocks: one of them runs, or a loop, through which nothing is known of what it changes.
    fn nested(&mut self, op: &Op, loops: bool, operands: &Operands<'_>) {
        op.blocks.iter().for_each(|block| self.block(block));
        let given: Vec<Bound> = operands
            .iter()
            .map(|operand| match operand.id.filter(|_| !operand.is_list) {
                Some(id) => self.bounds.values[id.index()].clone(),
                None => Bound { range: Interval::of_type(operand.dtype()), because_of: Vec::new() },
            })
            .collect();
        let yielding = if loops { &op.blocks[op.blocks.len().saturating_sub(1)..] } else { &op.blocks[..] };
        for (position, &result) in op.results.iter().enumerate() {
            let ids: Vec<ValueId> =
                yielding.iter().filter_map(|block| block.outputs.get(position).copied()).collect();
            if ids.len() < yielding.len() || ids.is_empty() || (loops && given.len() <= position) {
                continue;
            }
            let ranges = ids.iter().map(|id| self.bounds.values[id.index()].range);
            let ranges = ranges.chain(loops.then(|| given[position].range));
            let range = ranges.reduce(Interval::hull).unwrap_or(Interval::ALL);
            let mut because_of = self.union(ids.into_iter());
            if loops {
                because_of.extend(
                    given[position]
                        .because_of
                        .iter()
                        .filter(|id| !because_of.contains(id))
                        .copied()
                        .collect::<Vec<_>>(),
                );
                because_of.truncate(MOST_REASONS);
            }
            self.bounds.values[result.index()] = Bound { range, because_of };
        }
    }
}

/// What an op that is no sum of products gives, as exact numbers; `None` where there is no rule.
fn plain_range(site: &Site<'_>) -> Option<Interval> {
    elementwise::range(site)
        .or_else(|| reduce::range(site))
        .or_else(|| moves::range(site))
        .or_else(|| recurrent::range(site))
}
