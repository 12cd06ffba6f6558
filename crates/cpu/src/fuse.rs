//! Which ops become one step: chains of elementwise ops, and what is before and after a kernel.
//!
//! An op that computes element by element takes the ops over that make its operands in the same way, if nothing else
//! needs what they make and no dimension broadcasts. A product, reduction or softmax whose result only such ops need has
//! them as its epilogue, computed while the result is still in the cache; and the latter two have what makes an operand
//! that nothing else needs as their prologue, computed where they read it. Values are rounded as if each op had written
//! its result.

use anemone_mil::bind::Facts;
use anemone_mil::ops::Operand;
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::types::DType;

use crate::draft::{Chain, Draft, DraftWork};
use crate::kernels::Work;

/// Makes one step of those that can be one. A step stands where its last op was.
pub(crate) fn fuse(drafts: Vec<Draft>, facts: &Facts, readers: &[usize]) -> Vec<Draft> {
    let mut fusion = Fusion {
        facts,
        readers,
        drafts: Vec::with_capacity(drafts.len()),
        maker_of: vec![None; readers.len()],
    };
    drafts.into_iter().for_each(|draft| fusion.add(draft));
    fusion.drafts.into_iter().flatten().collect()
}

struct Fusion<'a> {
    /// What is known of each value.
    facts: &'a Facts,
    /// How many ops read each value.
    readers: &'a [usize],
    /// The steps so far; `None` where a later one does the work.
    drafts: Vec<Option<Draft>>,
    /// The step that makes each value.
    maker_of: Vec<Option<usize>>,
}

impl Fusion<'_> {
    fn add(&mut self, mut draft: Draft) {
        match draft.work {
            DraftWork::Region { value, chain } => draft = self.fused(draft.op, value, chain),
            DraftWork::Kernel { ref work, ref mut prologue, .. } => *prologue = self.take_prologue(work),
            DraftWork::Joint(_) | DraftWork::Meaning { .. } => {}
        }
        for value in draft.work.values() {
            self.maker_of[value.0 as usize] = Some(self.drafts.len());
        }
        self.drafts.push(Some(draft));
    }

    /// The step of an op that computes element by element, together with what can be fused with it.
    fn fused(&mut self, op: OpId, value: ValueId, mut chain: Chain) -> Draft {
        let dtype = chain.nodes[chain.nodes.len() - 1].dtype;
        // The step of a kernel of which the chain is to be the epilogue, and its result.
        let mut kernel = None;
        let made: Vec<ValueId> = chain.leaves.iter().filter_map(|leaf| leaf.id).collect();
        for value in made {
            let Some((step, work)) = self.sole_maker(value, &chain.dims) else { continue };
            let (maker, continued) = match work {
                DraftWork::Region { chain, .. } => (chain, None),
                DraftWork::Kernel { epilogue: Some(epilogue), .. } if kernel.is_none() => {
                    let result = epilogue.leaves.last().filter(|leaf| leaf.dtype() == dtype);
                    let Some(result) = result.and_then(|leaf| leaf.id) else { continue };
                    (epilogue, Some((step, result)))
                }
                _ => continue,
            };
            let Some(longer) = chain.with(value, maker) else { continue };
            chain = longer;
            match continued {
                Some(_) => kernel = continued,
                None => self.drafts[step] = None,
            }
        }
        let kernel = kernel.or_else(|| self.kernel_before(&chain, dtype));
        // Only now is all that the chain reads there, so the kernel is run here.
        let taken = kernel.and_then(|(step, result)| Some((self.drafts[step].take()?, result)));
        match taken {
            Some((Draft { op, work: DraftWork::Kernel { result, work, prologue, .. } }, made)) => {
                let epilogue = Some(chain.with_last(made));
                Draft { op, work: DraftWork::Kernel { result, value, work, prologue, epilogue } }
            }
            _ => Draft { op, work: DraftWork::Region { value, chain } },
        }
    }

    /// Takes over the chain that makes the only operand of a kernel, if the kernel can have it as its prologue.
    fn take_prologue(&mut self, work: &Work) -> Option<Chain> {
        let [operand] = &*work.operands else { return None };
        let kernel = work.kernel.surrounded()?;
        let (step, maker) = self.sole_maker(operand.id?, &operand.shape().to_known()?)?;
        let DraftWork::Region { chain, .. } = maker else { return None };
        let of_one = chain.nodes.iter().map(|node| node.function.work()).sum();
        let prologue = kernel.takes_prologue(of_one).then(|| chain.clone())?;
        self.drafts[step] = None;
        Some(prologue)
    }

    /// The step of a kernel whose result, of this type, the chain alone reads, and the result.
    fn kernel_before(&self, chain: &Chain, dtype: DType) -> Option<(usize, ValueId)> {
        let candidate = |leaf: &Operand| {
            let (step, work) = self.sole_maker(leaf.id?, &chain.dims)?;
            match work {
                DraftWork::Kernel { work, epilogue: None, .. } if work.kernel.surrounded().is_some() => {
                    Some((step, leaf.id?))
                }
                _ => None,
            }
        };
        chain.leaves.iter().filter(|leaf| leaf.dtype() == dtype).find_map(candidate)
    }

    /// The step that makes a value of these dimensions, which the op at hand alone reads.
    fn sole_maker(&self, value: ValueId, dims: &[usize]) -> Option<(usize, &DraftWork)> {
        let same = self.facts.ty(value).as_tensor()?.shape.to_known()? == dims;
        let sole = self.readers[value.0 as usize] == 1;
        let step = self.maker_of[value.0 as usize].filter(|_| same && sole)?;
        Some((step, &self.drafts[step].as_ref()?.work))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

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
        let execution =
            Execution::new(threads, &program, ("main", &types), &WeightMap::default(), usize::MAX).unwrap();
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

    #[test]
    fn what_nothing_depends_on_is_no_step_and_keeps_nothing_apart() {
        let dead = |function: &mut FunctionBuilder, x: ValueId, y: ValueId| {
            let product = op(function, "mul", [("x", x), ("y", x)]);
            let unread = op(function, "exp", [("x", product)]);
            op(function, "softmax", [("x", unread)]);
            let halves = [("x", y.into()), ("num_splits", 2.into()), ("axis", 1.into())];
            function.bind_all(&["first", "second"], AnyCall::named("split", halves)).unwrap();
            vec![op(function, "tanh", [("x", product)])]
        };
        assert_eq!(steps(dead), [2]);
    }

    #[test]
    fn of_several_results_only_those_that_are_read_are_computed() {
        let split = |function: &mut FunctionBuilder, x: ValueId, _| {
            let halves = [("x", x.into()), ("num_splits", 2.into()), ("axis", 1.into())];
            let halves = function.bind_all(&["first", "second"], AnyCall::named("split", halves)).unwrap();
            vec![op(function, "tanh", [("x", halves[1])])]
        };
        assert_eq!(steps(split), [1, 1]);
    }
}
