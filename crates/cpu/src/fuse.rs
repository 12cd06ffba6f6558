//! Which ops become one step: chains of elementwise ops, and what is before and after a kernel.
//!
//! An op that computes element by element takes the ops over that make its operands in the same way, if nothing else
//! needs what they make and no dimension broadcasts. A product, reduction or softmax whose result only such ops need is
//! finished by them, while it is still in the cache, and the latter two compute an operand that nothing else needs where
//! they read it. Values are rounded as if each op had written its result.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use anemone_mil::ops::Operand;
use anemone_mil::program::{Function as Graph, Op, OpId, ValueId};
use anemone_mil::runtime::RuntimeError;
use anemone_mil::types::DType;

use crate::kernels::Work;
use crate::kernels::elementwise::{Function, Node, Region, Value};
use crate::plan::{Draft, DraftWork, Planner, unsupported};

/// How many ops read each value; outputs of the function are read once more.
pub fn readers(graph: &Graph) -> HashMap<ValueId, usize> {
    let mut readers = HashMap::new();
    for op in &graph.ops {
        let mut values: Vec<ValueId> =
            op.arguments.iter().flat_map(|(_, argument)| argument.values()).collect();
        values.sort_unstable();
        values.dedup();
        for value in values {
            *readers.entry(value).or_insert(0) += 1;
        }
        for block in &op.blocks {
            block.outputs.iter().for_each(|&value| *readers.entry(value).or_insert(0) += 1);
        }
    }
    graph.body.outputs.iter().for_each(|&value| *readers.entry(value).or_insert(0) += 1);
    readers
}

/// Ops that are to become one region.
#[derive(Clone)]
pub struct Chain {
    /// The dimensions of every op's result.
    pub dims: Vec<usize>,
    /// What the ops read that none of them makes.
    pub leaves: Vec<Operand>,
    /// What the ops compute.
    pub nodes: Vec<Node>,
    /// The ops.
    pub ops: Vec<OpId>,
}

impl Chain {
    /// One op.
    pub fn new(
        op: OpId,
        function: Arc<dyn Function>,
        operands: &[Operand],
        (dims, dtype): (Vec<usize>, DType),
    ) -> Chain {
        let mut leaves = Vec::new();
        let operands = operands.iter().map(|operand| Value::Leaf(leaf(&mut leaves, operand))).collect();
        Chain { dims, leaves, nodes: vec![Node { function, operands, dtype }], ops: vec![op] }
    }

    /// This chain with what makes one of its leaves; `None` where that would be too long.
    pub fn with(&self, made: ValueId, maker: &Chain) -> Option<Chain> {
        let mut leaves = maker.leaves.clone();
        let shift = maker.nodes.len();
        let moved: Vec<Value> = self
            .leaves
            .iter()
            .map(|operand| match operand.id {
                Some(id) if id == made => Value::Node(shift - 1),
                _ => Value::Leaf(leaf(&mut leaves, operand)),
            })
            .collect();
        let place = |value: &Value| match *value {
            Value::Leaf(leaf) => moved[leaf],
            Value::Node(node) => Value::Node(shift + node),
        };
        let nodes = self.nodes.iter().map(|node| {
            let operands = node.operands.iter().map(place).collect();
            Node { operands, ..node.clone() }
        });
        let nodes: Vec<Node> = maker.nodes.iter().cloned().chain(nodes).collect();
        let ops = maker.ops.iter().chain(&self.ops).copied().collect();
        Region::fits(leaves.len(), nodes.len()).then(|| Chain { dims: self.dims.clone(), leaves, nodes, ops })
    }

    /// This chain with one leaf as the last.
    pub fn with_last(&self, last: ValueId) -> Chain {
        let mut chain = self.clone();
        if let Some(at) = chain.leaves.iter().position(|leaf| leaf.id == Some(last)) {
            let operand = chain.leaves.remove(at);
            chain.leaves.push(operand);
            let end = chain.leaves.len() - 1;
            let values = chain.nodes.iter_mut().flat_map(|node| &mut node.operands);
            for value in values {
                match value {
                    Value::Leaf(leaf) if *leaf == at => *leaf = end,
                    Value::Leaf(leaf) if *leaf > at => *leaf -= 1,
                    _ => {}
                }
            }
        }
        chain
    }

    /// The region.
    pub fn region(&self) -> Option<Region> {
        Region::new(&self.dims, &self.leaves, self.nodes.clone())
    }
}

/// The position of an operand among leaves, where it is put if it is not there.
fn leaf(leaves: &mut Vec<Operand>, operand: &Operand) -> usize {
    let known = |leaf: &Operand| operand.id.is_some() && leaf.id == operand.id;
    leaves.iter().position(known).unwrap_or_else(|| {
        leaves.push(operand.clone());
        leaves.len() - 1
    })
}

impl Planner<'_> {
    /// Adds an op that computes element by element, together with the ops before it that can be fused with it.
    pub fn add_elementwise(
        &mut self,
        id: OpId,
        op: &Op,
        function: Arc<dyn Function>,
        operands: &[Operand],
    ) -> Result<(), RuntimeError> {
        let Some(&value) = op.results.first() else { return Ok(()) };
        let ty = self.constants.specialized().ty(value);
        let Some((dims, dtype)) = ty.and_then(|ty| Some((ty.shape.to_known()?, ty.dtype))) else {
            return Err(unsupported("a result of unknown size"));
        };
        let mut chain = Chain::new(id, function, operands, (dims, dtype));
        // The step of a kernel that the chain is to finish, and its result.
        let mut kernel = None;
        let made: Vec<ValueId> = chain.leaves.iter().filter_map(|leaf| leaf.id).collect();
        for &value in &made {
            let Some(step) = self.sole_maker(value, &chain.dims) else { continue };
            let (maker, finished) = match &self.drafts[step].work {
                DraftWork::Region { chain, .. } => (chain, None),
                DraftWork::Kernel { finish: Some(chain), .. } if kernel.is_none() => {
                    let finished = chain.leaves.last().filter(|leaf| leaf.dtype() == dtype);
                    let Some(finished) = finished.and_then(|leaf| leaf.id) else { continue };
                    (chain, Some((step, finished)))
                }
                _ => continue,
            };
            let Some(longer) = chain.with(value, maker) else { continue };
            chain = longer;
            match finished {
                Some(_) => kernel = finished,
                None => self.drafts[step].work = DraftWork::Moved,
            }
        }
        let kernel = kernel.or_else(|| self.kernel_of(&chain, dtype));
        self.read_all(&chain.leaves);
        let mut draft = Draft { op: id, work: DraftWork::Moved };
        if let Some((step, made)) = kernel {
            // Only now is all that the chain reads there.
            draft = mem::replace(&mut self.drafts[step], draft);
            if let DraftWork::Kernel { work, lead, finish, .. } = &mut draft.work {
                self.read_all(lead.as_ref().map_or(&work.operands, |chain| &chain.leaves));
                *finish = Some(chain.with_last(made));
            }
        } else {
            draft.work = DraftWork::Region { storage: 0, chain };
        }
        let new = self.add_result(value)?;
        if let DraftWork::Kernel { storage, .. } | DraftWork::Region { storage, .. } = &mut draft.work {
            *storage = new;
        }
        self.drafts.push(draft);
        Ok(())
    }

    /// Takes over the chain that makes the only operand of a kernel, if the kernel can have it as a part.
    pub fn lead(&mut self, work: &Work) -> Option<Chain> {
        let [operand] = &*work.operands else { return None };
        let kernel = work.kernel.surrounded()?;
        let step = self.sole_maker(operand.id?, &operand.shape().to_known()?)?;
        let DraftWork::Region { chain, .. } = &self.drafts[step].work else { return None };
        let of_one = chain.nodes.iter().map(|node| node.function.work()).sum();
        let lead = kernel.takes_lead(of_one).then(|| chain.clone())?;
        self.drafts[step].work = DraftWork::Moved;
        Some(lead)
    }

    /// The step of a kernel whose result, of this type, the chain alone reads, and the result.
    fn kernel_of(&self, chain: &Chain, dtype: DType) -> Option<(usize, ValueId)> {
        chain.leaves.iter().filter(|leaf| leaf.dtype() == dtype).find_map(|leaf| {
            let step = self.sole_maker(leaf.id?, &chain.dims)?;
            let finished = match &self.drafts[step].work {
                DraftWork::Kernel { work, finish: None, .. } => work.kernel.surrounded().is_some(),
                _ => false,
            };
            finished.then_some((step, leaf.id?))
        })
    }

    /// The step that makes a value of these dimensions, which the op at hand alone reads.
    fn sole_maker(&self, value: ValueId, dims: &[usize]) -> Option<usize> {
        let same = self.constants.specialized().ty(value)?.shape.to_known()? == dims;
        let sole = self.readers.get(&value) == Some(&1);
        self.draft_of.get(&value).copied().filter(|_| same && sole)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use anemone_mil::builder::{AnyCall, FunctionBuilder};
    use anemone_mil::program::{Program, Version};
    use anemone_mil::tensor::Tensor;
    use anemone_mil::types::{Opset, TensorType};
    use anemone_mil::verify::verify;
    use anemone_mil::weights::WeightMap;

    use super::*;
    use crate::execution::Execution;

    /// The ops that each step of a function of x and y, `[1, 8, 1, 300]`, takes over.
    fn steps(build: impl Fn(&mut FunctionBuilder, ValueId, ValueId) -> Vec<ValueId>) -> Vec<usize> {
        let mut function = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
        let ty = TensorType::new(DType::Fp16, &[1, 8, 1, 300]);
        let (x, y) = (function.input("x", ty.clone()), function.input("y", ty.clone()));
        let outputs = build(&mut function, x, y);
        let mut program = Program::new(Version::V1_3);
        program.functions.push(function.finish(outputs));
        let program = Arc::new(verify(program).unwrap());
        let threads = crate::Cpu::new().unwrap().threads;
        let types = [ty.clone(), ty];
        let execution = Execution::new(threads, &program, "main", &types, &WeightMap::default()).unwrap();
        execution.ops_of_steps()
    }

    fn op<const N: usize>(
        function: &mut FunctionBuilder,
        name: &'static str,
        inputs: [(&'static str, ValueId); N],
    ) -> ValueId {
        function.bind("t", AnyCall::named(name, inputs.map(|(name, id)| (name, id.into())))).unwrap()
    }

    #[test]
    fn a_chain_is_one_step() {
        let chain = |function: &mut FunctionBuilder, x, y| {
            let product = op(function, "mul", [("x", x), ("y", x)]);
            let gate = op(function, "silu", [("x", y)]);
            let sum = op(function, "add", [("x", product), ("y", gate)]);
            vec![op(function, "tanh", [("x", sum)])]
        };
        assert_eq!(steps(chain), [4]);
    }

    #[test]
    fn what_is_read_twice_or_repeats_is_a_step_of_its_own() {
        let twice = |function: &mut FunctionBuilder, x, y| {
            let sum = op(function, "add", [("x", x), ("y", y)]);
            let root = op(function, "tanh", [("x", sum)]);
            vec![op(function, "relu", [("x", sum)]), root]
        };
        assert_eq!(steps(twice), [1, 1, 1]);
        let repeats = |function: &mut FunctionBuilder, x, y| {
            let one = function.constant("one", Tensor::zeros(DType::Fp16, &[1, 8, 1, 1]).unwrap());
            let small = op(function, "add", [("x", one), ("y", one)]);
            let small = op(function, "relu", [("x", small)]);
            let large = op(function, "mul", [("x", x), ("y", small)]);
            vec![op(function, "sub", [("x", large), ("y", y)])]
        };
        assert_eq!(steps(repeats), [2, 2]);
    }

    #[test]
    fn a_product_takes_over_its_bias_and_activation() {
        let layer = |function: &mut FunctionBuilder, x, y| {
            let weight = function.constant("weight", Tensor::zeros(DType::Fp16, &[8, 8, 1, 1]).unwrap());
            let product = op(function, "conv", [("x", x), ("weight", weight)]);
            let gate = op(function, "sigmoid", [("x", product)]);
            vec![op(function, "mul", [("x", gate), ("y", y)])]
        };
        assert_eq!(steps(layer), [3]);
    }

    #[test]
    fn a_normalization_is_two_steps() {
        let normalization = |function: &mut FunctionBuilder, x, y| {
            let squares = op(function, "mul", [("x", x), ("y", x)]);
            let axes = [("x", squares.into()), ("axes", [1].into()), ("keep_dims", true.into())];
            let mean = function.bind("mean", AnyCall::named("reduce_mean", axes)).unwrap();
            let root = op(function, "rsqrt", [("x", mean)]);
            let normal = op(function, "mul", [("x", x), ("y", root)]);
            vec![op(function, "mul", [("x", normal), ("y", y)])]
        };
        assert_eq!(steps(normalization), [3, 2]);
    }

    #[test]
    fn long_chains_are_cut() {
        let long = |function: &mut FunctionBuilder, x, y| {
            let mut sum = y;
            for _ in 0..40 {
                sum = op(function, "add", [("x", x), ("y", sum)]);
            }
            vec![sum]
        };
        let steps = steps(long);
        assert!(steps.len() == 3 && steps.iter().sum::<usize>() == 40, "{steps:?}");
    }
}
