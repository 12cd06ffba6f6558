//! States, which the direct compilers refuse, as inputs and outputs.

use std::collections::{HashMap, HashSet};

use anemone_mil::ops::{ReadState, WriteState};
use anemone_mil::passes::{PassError, Rewritten, Sites, forget_inputs, remove_dead_code, rewrite};
use anemone_mil::program::{FreeNames, OpId, ValueId};
use anemone_mil::types::Type;
use anemone_mil::verify::Verified;

use crate::chips::Chips;

/// Takes what a state holds as an input of its name, and gives what it holds in the end as an output `NAME_next` (R42):
/// whoever runs the program hands it on to the next run. A function stays as it is where an op in a block reads or
/// writes a state, and where what is read or written goes out, or came in, under a name of its own.
pub(super) fn states(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let dialect = program.program().version.dialect();
    rewrite(program, |index, function| {
        let before = &program.program().functions[index];
        let Some(Flow { held, last, reads, gone }) = flow(program, index) else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        function.rename_uses(&reads);
        function.retain_ops(|id| !gone.contains(&id));
        for state in held {
            let name = before.value(state).name.clone();
            if let Type::State(held) = &before.value(state).ty {
                function.values[state.index()].ty = (**held).clone();
            }
            forget_inputs(function, &HashSet::from([name.clone()]));
            let Some(&next) = last.get(&state) else {
                changes.push(format!("the state `{name}` became an input (R42)"));
                continue;
            };
            let giver = function.walk().find(|(_, op)| op.results.contains(&next)).map(|(id, _)| id);
            if let (Some(giver), false) = (giver, function.body.outputs.contains(&next)) {
                let free = FreeNames::of(function).free(&format!("{name}_next"));
                function.rename_result(giver, next, free, dialect);
                function.body.outputs.push(next);
            }
            let next = &function.value(next).name;
            changes
                .push(format!("the state `{name}` became an input, which `{next}` is in the next run (R42)"));
        }
        if !changes.is_empty() {
            remove_dead_code(function);
        }
        Ok(changes)
    })
}

/// How values go through the states of a function.
struct Flow {
    /// The states.
    held: Vec<ValueId>,
    /// What each holds in the end, where it is written.
    last: HashMap<ValueId, ValueId>,
    /// What stands for what is read.
    reads: HashMap<ValueId, ValueId>,
    /// The ops that read and write.
    gone: HashSet<OpId>,
}

/// Follows the states through a function; `None` where it has none, or they cannot be followed.
fn flow(program: &Verified, index: usize) -> Option<Flow> {
    let function = &program.program().functions[index];
    let sites = Sites::of(program, index);
    let is_state = |id: &ValueId| matches!(function.value(*id).ty, Type::State(_));
    let held: Vec<ValueId> = function.body.inputs.iter().copied().filter(is_state).collect();
    let mut now: HashMap<ValueId, ValueId> = held.iter().map(|&state| (state, state)).collect();
    let (mut last, mut reads, mut gone) = (HashMap::new(), HashMap::new(), HashSet::new());
    for &id in &function.body.ops {
        let site = sites.at(id);
        let state = site.values("input").next().filter(is_state);
        if site.is_a::<ReadState>() {
            let (state, &read) = (state?, site.op().results.first()?);
            if site.is_yielded(read) {
                return None;
            }
            reads.insert(read, *now.get(&state)?);
        } else if site.is_a::<WriteState>() {
            let (state, data) = (state?, site.values("data").next()?);
            let data = reads.get(&data).copied().unwrap_or(data);
            // A constant or an input has a name of its own.
            if function.body.inputs.contains(&data) || program.facts(index).is_constant(data) {
                return None;
            }
            now.insert(state, data);
            last.insert(state, data);
        } else {
            continue;
        }
        gone.insert(id);
    }
    let read_elsewhere =
        function.walk().any(|(id, op)| !gone.contains(&id) && op.reads().any(|id| is_state(&id)));
    let twice = last.values().collect::<HashSet<_>>().len() < last.len();
    (!held.is_empty() && !read_elsewhere && !twice).then_some(Flow { held, last, reads, gone })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anemone_mil::eval::Interpreter;
    use anemone_mil::runtime::{Runtime, allocate_outputs};
    use anemone_mil::tensor::Tensor;
    use anemone_mil::text;
    use anemone_mil::types::DType;
    use anemone_mil::verify::verify;
    use anemone_mil::weights::WeightMap;

    use crate::chips::Chips;
    use crate::legalize::pass;

    const SOURCE: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [2]> x, state<tensor<fp16, [2]>> kept) {
            tensor<fp16, [2]> old = read_state(input = kept)[name = string("old")];
            tensor<fp16, [2]> sum = add(x = x, y = old)[name = string("sum")];
            write_state(data = sum, input = kept)[name = string("write")];
            tensor<fp16, [2]> again = read_state(input = kept)[name = string("again")];
            tensor<fp16, [2]> y = mul(x = again, y = old)[name = string("y")];
        } -> (y);
}
"#;

    /// Three runs: by the state, and handing on what was given.
    #[test]
    fn states_are_handed_on() {
        let program = Arc::new(verify(text::parse(SOURCE).unwrap().program).unwrap());
        let rewritten = pass("states").unwrap().apply(&program, Chips::ALL).unwrap();
        let said = "`main`: the state `kept` became an input, which `kept_next` is in the next run (R42)";
        assert_eq!(rewritten.changes, [said]);
        let after = Arc::new(rewritten.program);
        let again = pass("states").unwrap().apply(&after, Chips::ALL).unwrap();
        assert_eq!(again.changes, [""; 0]);
        let x = Tensor::from_f64(DType::Fp16, &[2], &[1.5, -2.0]).unwrap();
        let mut kept = Tensor::zeros(DType::Fp16, &[2]).unwrap();
        let weights = WeightMap::default();
        let prepare =
            |program, types: &[_]| Interpreter::default().prepare(program, "main", types, &weights).unwrap();
        let mut by_state = prepare(&program, &[x.ty()]);
        let mut by_input = prepare(&after, &[x.ty(), kept.ty()]);
        for _ in 0..3 {
            let mut expected = allocate_outputs(by_state.as_ref()).unwrap();
            by_state.run(&[&x], &mut expected).unwrap();
            let mut found = allocate_outputs(by_input.as_ref()).unwrap();
            by_input.run(&[&x, &kept], &mut found).unwrap();
            assert_eq!(found[0], expected[0]);
            assert_eq!(Some(&found[1]), by_state.state("kept"));
            kept = found.remove(1);
        }
        assert_eq!(kept.to_f64(), Some(vec![4.5, -6.0]));
    }
}
