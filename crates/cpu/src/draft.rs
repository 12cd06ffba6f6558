//! Steps whose memory is not settled yet: what fusion works on.

use std::sync::Arc;

use anemone_mil::ops::Operand;
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::types::DType;

use crate::kernels::elementwise::{Node, NodeOperand, Region, StripFunction};
use crate::kernels::{JointWork, Work};

/// A step whose memory is not settled yet.
pub(crate) struct Draft {
    /// The op: that of the kernel or the meaning, or else the last one of several.
    pub op: OpId,
    /// What it does.
    pub work: DraftWork,
}

/// What a step is going to do.
pub(crate) enum DraftWork {
    /// A kernel computes one result.
    Kernel {
        /// Which of the op's results.
        result: usize,
        /// What the step makes: that result, or the last one of the epilogue.
        value: ValueId,
        /// The kernel.
        work: Work,
        /// What computes its operand.
        prologue: Option<Chain>,
        /// What goes on with its result, which is the last leaf.
        epilogue: Option<Chain>,
    },
    /// A kernel computes several results, of several ops.
    Joint(JointWork),
    /// Ops that compute element by element.
    Region {
        /// What the last of them makes.
        value: ValueId,
        /// The ops.
        chain: Chain,
    },
    /// The op's meaning computes all results, which are held.
    Meaning {
        /// The places of the results among the held tensors.
        results: Vec<usize>,
    },
}

impl DraftWork {
    /// The values that kernels or a region compute in the step.
    pub(crate) fn values(&self) -> &[ValueId] {
        match self {
            DraftWork::Kernel { value, .. } | DraftWork::Region { value, .. } => std::slice::from_ref(value),
            DraftWork::Joint(work) => &work.values,
            DraftWork::Meaning { .. } => &[],
        }
    }

    /// What a kernel or region reads: the operands of the kernel, or what its prologue reads, and then what its epilogue
    /// reads besides.
    pub(crate) fn operands(&self) -> impl Iterator<Item = &Operand> {
        let (own, others): (&[Operand], &[Operand]) = match self {
            DraftWork::Kernel { work, prologue, epilogue, .. } => {
                let own = prologue.as_ref().map_or(&work.operands, |chain| &chain.leaves);
                let others = epilogue.as_ref().and_then(|chain| chain.leaves.split_last());
                (own, others.map_or(&[], |(_, others)| others))
            }
            DraftWork::Joint(work) => (&work.operands, &[]),
            DraftWork::Region { chain, .. } => (&chain.leaves, &[]),
            DraftWork::Meaning { .. } => (&[], &[]),
        };
        own.iter().chain(others)
    }
}

/// Ops that are to become one region.
#[derive(Clone)]
pub(crate) struct Chain {
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
    pub(crate) fn new(
        op: OpId,
        function: Arc<dyn StripFunction>,
        operands: &[Operand],
        (dims, dtype): (Vec<usize>, DType),
    ) -> Chain {
        let mut leaves = Vec::new();
        let operands = operands.iter().map(|operand| NodeOperand::Leaf(leaf(&mut leaves, operand))).collect();
        Chain { dims, leaves, nodes: vec![Node { function, operands, dtype }], ops: vec![op] }
    }

    /// This chain with what makes one of its leaves; `None` where that would be too long.
    pub(crate) fn with(&self, made: ValueId, maker: &Chain) -> Option<Chain> {
        let mut leaves = maker.leaves.clone();
        let shift = maker.nodes.len();
        let moved: Vec<NodeOperand> = self
            .leaves
            .iter()
            .map(|operand| match operand.id {
                Some(id) if id == made => NodeOperand::Node(shift - 1),
                _ => NodeOperand::Leaf(leaf(&mut leaves, operand)),
            })
            .collect();
        let place = |value: &NodeOperand| match *value {
            NodeOperand::Leaf(leaf) => moved[leaf],
            NodeOperand::Node(node) => NodeOperand::Node(shift + node),
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
    pub(crate) fn with_last(&self, last: ValueId) -> Chain {
        let mut chain = self.clone();
        if let Some(at) = chain.leaves.iter().position(|leaf| leaf.id == Some(last)) {
            let operand = chain.leaves.remove(at);
            chain.leaves.push(operand);
            let end = chain.leaves.len() - 1;
            let values = chain.nodes.iter_mut().flat_map(|node| &mut node.operands);
            for value in values {
                match value {
                    NodeOperand::Leaf(leaf) if *leaf == at => *leaf = end,
                    NodeOperand::Leaf(leaf) if *leaf > at => *leaf -= 1,
                    _ => {}
                }
            }
        }
        chain
    }

    /// What computes them.
    pub(crate) fn region(&self) -> Option<Region> {
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
