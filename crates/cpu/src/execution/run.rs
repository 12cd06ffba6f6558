//! One run of a body: its steps, one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::eval::Evaluation;
use anemone_mil::ops::{OpError, Operand, RunBlocks};
use anemone_mil::program::{BlobReference, OpId, ValueId};
use anemone_mil::runtime::{RuntimeError, within_block};
use anemone_mil::specialize::op_error;
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::TensorType;

use super::{Buffers, Nested, is_known};
use crate::constants::Constants;
use crate::kernels::{Around, Elements, MOST_RESULTS};
use crate::memory::{Memory, MemoryPlace, PlannedParts, Sources, bytes_of_mut};
use crate::plan::{Action, Step, unsupported};
use crate::rows::{GATHER, choose_rows};
use crate::threads::Threads;

/// The tensors of one run.
pub(super) struct Run<'a> {
    pub(super) constants: &'a Constants,
    pub(super) places: &'a [Option<MemoryPlace>],
    pub(super) buffers: &'a mut Buffers,
    pub(super) nested: &'a mut HashMap<OpId, Vec<Nested>>,
    pub(super) evaluation: &'a mut Evaluation,
    pub(super) inputs: &'a [&'a Tensor],
    pub(super) outputs: &'a mut [Tensor],
    pub(super) threads: &'a Threads,
}

impl Run<'_> {
    /// What can be read while nothing is written.
    fn memory(&self) -> Memory<'_> {
        Memory {
            planned: PlannedParts::whole(&self.buffers.planned),
            inputs: self.inputs,
            outputs: self.outputs,
            held: &self.buffers.held,
            constants: self.constants,
        }
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), RuntimeError> {
        let threads = self.threads;
        match &step.action {
            Action::Meaning { results } => return self.run_meaning(step.op, results),
            Action::Region { fused, sources, to } => {
                self.write_one(sources, to, |sources, result, _| fused.region.run(sources, result, threads));
            }
            Action::Joint { kernel, sources, to, .. } => {
                self.write(sources, to, |sources, results, scratch| {
                    kernel.run(sources, results, scratch, threads);
                });
            }
            Action::Kernel { kernel, prologue: None, epilogue: None, sources, to, .. } => {
                self.write_one(sources, to, |sources, result, scratch| {
                    kernel.run(sources, result, scratch, threads);
                });
            }
            Action::Kernel { kernel, prologue, epilogue, sources, to, .. } => {
                let Some(kernel) = kernel.surrounded() else {
                    return Err(unsupported("a step whose kernel has no other ops as parts"));
                };
                let others = epilogue.as_ref().map_or(0, |fused| fused.region.others());
                let (first, arch) = (sources.len() - others, threads.arch());
                self.write_one(sources, to, |sources, result, scratch| {
                    let prologue = prologue.as_ref().map(|fused| {
                        let (region, leaves) = (&fused.region, fused.region.values(&sources, 0));
                        move |position: usize, values: &mut [f32]| {
                            region.prologue(&leaves, position, values, arch);
                        }
                    });
                    let epilogue = epilogue.as_ref().map(|fused| {
                        let (region, leaves) = (&fused.region, fused.region.values(&sources, first));
                        move |position: usize, values: &mut [f32]| {
                            region.epilogue(&leaves, position, values, arch);
                        }
                    });
                    let around = Around {
                        prologue: prologue.as_ref().map(|prologue| prologue as Elements<'_>),
                        epilogue: epilogue.as_ref().map(|epilogue| epilogue as Elements<'_>),
                    };
                    kernel.run_within(sources, result, scratch, threads, around);
                });
            }
        }
        Ok(())
    }

    /// Frees held tensors that nothing reads any more.
    pub(super) fn drop_held(&mut self, held: &[usize]) {
        held.iter().for_each(|&held| self.buffers.held[held] = None);
    }

    /// Calls `compute` with what a step reads, the bytes of its only result, and working memory.
    fn write_one(
        &mut self,
        sources: &[MemoryPlace],
        to: &MemoryPlace,
        compute: impl FnOnce(Sources<'_>, &mut [u8], &mut [f64]),
    ) {
        self.write(sources, std::slice::from_ref(to), |sources, results, scratch| {
            if let [result] = results {
                compute(sources, result, scratch);
            }
        });
    }

    /// Calls `compute` with what a step reads, the bytes of each of its results, and working memory.
    fn write(
        &mut self,
        sources: &[MemoryPlace],
        to: &[MemoryPlace],
        compute: impl FnOnce(Sources<'_>, &mut [&mut [u8]], &mut [f64]),
    ) {
        let Buffers { planned, scratch, held } = &mut *self.buffers;
        let mut given: [Option<(usize, Data)>; MOST_RESULTS] = [const { None }; MOST_RESULTS];
        for (given, to) in given.iter_mut().zip(to) {
            if let MemoryPlace::Output(index) = to {
                *given = Some((*index, take(&mut self.outputs[*index])));
            }
        }
        let mut results: [&mut [u8]; MOST_RESULTS] = std::array::from_fn(|_| &mut [][..]);
        let planned = PlannedParts::around(planned, to, &mut results);
        for (result, given) in results.iter_mut().zip(&mut given) {
            if let Some((_, data)) = given {
                *result = bytes_of_mut(data);
            }
        }
        let (inputs, constants) = (self.inputs, self.constants);
        let memory = Memory { planned, inputs, outputs: self.outputs, held, constants };
        let results = &mut results[..to.len()];
        compute(Sources::new(sources, memory), results, bytemuck::cast_slice_mut(scratch));
        for (index, data) in given.into_iter().flatten() {
            *self.outputs[index].data_mut() = data;
        }
    }

    fn run_meaning(&mut self, id: OpId, results: &[usize]) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        let Some(row) = specialized.program.row(specialized.function, id) else {
            return Err(unsupported(format!("the op `{}`", op.name)));
        };
        let (operands, captured) = {
            let (constants, places, memory) = (self.constants, self.places, self.memory());
            let frame = Frame { constants, places, memory, takes_rows: op.name == GATHER };
            let value = |&id: &ValueId| frame.value(id).and_then(|operand| operand.value);
            let nested = self.nested.get(&id).into_iter().flatten();
            let captured: Vec<Option<Vec<_>>> =
                nested.map(|nested| nested.captured.iter().map(value).collect()).collect();
            (bind::operands(op, row, &frame), captured)
        };
        let operands = operands.and_then(|mut operands| {
            let stored = operands.iter().filter_map(|operand| self.constants.compressed(operand.id?)).next();
            if let Some(stored) = stored.filter(|_| op.name == GATHER) {
                choose_rows(row, &mut operands, stored, self.threads)?;
            }
            Ok(operands)
        });
        let tensors: Result<Vec<Arc<Tensor>>, OpError> = operands.and_then(|operands| match row.blocks {
            None => Ok(row.apply(&operands, self.evaluation)?.into_iter().map(Arc::new).collect()),
            Some(rules) => {
                let nested = self.nested.get_mut(&id).map_or(&mut [][..], Vec::as_mut_slice);
                let (evaluation, threads) = (&mut *self.evaluation, self.threads);
                (rules.eval)(&operands, &mut Blocks { nested, captured, evaluation, threads })
            }
        });
        let tensors = tensors.map_err(|error| op_error(function, id, error))?;
        for ((&held, tensor), &value) in results.iter().zip(tensors).zip(&op.results) {
            // Kernels rely on the sizes that were planned.
            specialized.check_result(value, &tensor)?;
            self.buffers.held[held] = Some(tensor);
        }
        Ok(())
    }

    /// Fills the outputs that no step wrote in place: inputs, constants, bools, results of meanings, and
    /// values that are several outputs.
    pub(super) fn deliver(&mut self) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        for (index, &id) in function.body.outputs.iter().enumerate() {
            let place = self.places[id.0 as usize].as_ref().ok_or_else(|| {
                RuntimeError::Interface(format!("the output `{}` has no value", function.value(id).name))
            })?;
            if matches!(place, MemoryPlace::Output(at) if *at == index) {
                continue;
            }
            if is_known(&specialized.outputs[index].ty) {
                let mut data = take(&mut self.outputs[index]);
                self.memory().copy(place, &mut data);
                *self.outputs[index].data_mut() = data;
            } else if let Some(tensor) = self.memory().tensor(place).cloned() {
                self.outputs[index] = tensor;
            }
        }
        Ok(())
    }
}

/// Takes a tensor's values and leaves none; allocates nothing. They must be put back.
fn take(tensor: &mut Tensor) -> Data {
    std::mem::replace(tensor.data_mut(), Data::F32(Vec::new()))
}

/// The operands of an op that is run by its meaning.
struct Frame<'a> {
    constants: &'a Constants,
    places: &'a [Option<MemoryPlace>],
    memory: Memory<'a>,
    /// Whether the op takes rows, of constants in their stored form too.
    takes_rows: bool,
}

impl Scope for Frame<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let known = self.constants.value(id)?;
        let place = self.places.get(id.0 as usize)?;
        // Rows are taken of the stored form, even of what is decoded for others.
        let is_stored = self.takes_rows && self.constants.compressed(id).is_some();
        if known.value.is_some() || known.is_state || is_stored {
            return Some(known);
        }
        let tensor = self.memory.shared_tensor(place.as_ref()?, &known.ty)?;
        Some(known.holding(tensor))
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.constants.blob(reference, ty)
    }
}

/// The blocks of an op.
struct Blocks<'a> {
    nested: &'a mut [Nested],
    /// What each block reads from around it; `None` where that has no value.
    captured: Vec<Option<Vec<Arc<Tensor>>>>,
    evaluation: &'a mut Evaluation,
    threads: &'a Threads,
}

impl RunBlocks for Blocks<'_> {
    fn run(&mut self, block: usize, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, OpError> {
        let Nested { body, elements, .. } = &mut self.nested[block];
        self.evaluation.charge_elements(*elements)?;
        let specialized = body.constants.specialized();
        for (&id, value) in specialized.input_ids.iter().zip(&inputs) {
            specialized.check_result(id, value).map_err(within_block)?;
        }
        let Some(captured) = &self.captured[block] else {
            return Err(within_block(RuntimeError::Interface(
                "a value that a block reads is missing".into(),
            )));
        };
        let inputs: Vec<&Tensor> = inputs.iter().chain(captured).map(AsRef::as_ref).collect();
        let mut outputs = vec![Tensor::scalar(false); specialized.outputs.len()];
        body.run(self.threads, self.evaluation, &inputs, &mut outputs).map_err(within_block)?;
        Ok(outputs.into_iter().map(Arc::new).collect())
    }

    fn round(&mut self) -> Result<(), OpError> {
        self.evaluation.charge_overhead(1)
    }
}
