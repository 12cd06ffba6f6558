//! Reverse-mode differentiation: from one function two ordinary ones, forward and backward.
//!
//! Forward computes what the function does, and returns after its results what backward needs. Backward takes the
//! gradient of each differentiated result, `d_NAME`, and what it reads of the function's inputs and of forward's
//! results, and gives a gradient `d_NAME` for each input or constant asked for.
//!
//! Every op's row has its rule, which builds the gradient as MIL from the op's operands, results and the gradients of
//! those ([`Pullback`]). The rules' ops are appended to the function, in the reverse order of its own; what the two
//! parts share is then saved or computed again, whichever is fewer bytes ([`partition`]), and dead code goes. Products and
//! reductions are computed again only where [`Request::recompute`] says so.
//!
//! ```
//! use anemone_mil::grad::{Request, differentiate};
//! use anemone_mil::{text, verify};
//!
//! let source = r#"program(1.3)
//! {
//!     func main<ios18>(tensor<fp32, [2, 3]> x) {
//!             tensor<fp32, [2, 3]> y = mul(x = x, y = x)[name = string("y")];
//!         } -> (y);
//! }
//! "#;
//! let program = verify::verify(text::parse(source)?.program)?;
//! let pair = differentiate(&program, "main", &Request::all(&["x"]))?;
//! let backward = &pair.backward;
//! let names: Vec<&str> = backward.body.inputs.iter().map(|&id| backward.value(id).name.as_str()).collect();
//! assert_eq!(names, ["d_y", "x"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{HashMap, HashSet};

use crate::bind;
use crate::builder::{BuildError, FunctionBuilder};
use crate::ops::{Gradient, OpError};
use crate::passes;
use crate::program::{Argument, Function, OpId, ValueId};
use crate::tensor::Tensor;
use crate::types::Type;
use crate::verify::{CONST, Verified};

mod cut;
pub mod partition;
mod pullback;

pub use pullback::{Pullback, lengths};

/// Why a function cannot be differentiated.
#[derive(Debug, thiserror::Error)]
pub enum GradError {
    /// The program has no function of this name.
    #[error("no function is named `{0}`")]
    NoFunction(String),
    /// A name that stands for nothing that can be differentiated.
    #[error("{0}")]
    Name(String),
    /// An op through which the gradient would have to go has none.
    #[error("`{value}`, {op}: no gradient goes through this op: {reason}")]
    NoGradient {
        /// The op's name.
        op: String,
        /// The name of its first result.
        value: String,
        /// Why there is none.
        reason: String,
    },
    /// An op's rule cannot build its gradient.
    #[error("the gradient of `{value}`, {op}: {error}")]
    Rule {
        /// The op's name.
        op: String,
        /// The name of its first result.
        value: String,
        /// What stands in the way.
        error: Box<OpError>,
    },
    /// The gradient of a result cannot be built.
    #[error("{0}")]
    Build(#[from] BuildError),
}

/// What is to be differentiated.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// Results to differentiate, by name; all of floating point where none is named.
    pub of: Vec<&'a str>,
    /// Inputs and constants with respect to which.
    pub wrt: Vec<&'a str>,
    /// Values that are constant to the gradient: nothing goes through them.
    pub constant: Vec<&'a str>,
    /// Values that forward never saves, by name: backward computes them again from what is saved, whatever their ops
    /// are, as the T×T matrices of attention, which are too large to keep.
    pub recompute: Vec<&'a str>,
    /// Groups of ops with a rule of their own.
    pub groups: Vec<Group<'a>>,
}

impl<'a> Request<'a> {
    /// Every floating-point result, with respect to these.
    pub fn all(wrt: &[&'a str]) -> Request<'a> {
        Request { wrt: wrt.to_vec(), ..Request::default() }
    }
}

/// The rule of a group of ops: it builds the gradients of the inputs.
pub type GroupRule<'a> =
    dyn Fn(&GroupGradient, &mut FunctionBuilder) -> Result<Vec<ValueId>, BuildError> + 'a;

/// Ops that together have a rule of their own: those between some values and one result.
#[derive(Clone, Copy)]
pub struct Group<'a> {
    /// The values that the group starts from.
    pub inputs: &'a [&'a str],
    /// Its result.
    pub output: &'a str,
    /// Builds the gradient of each input.
    pub rule: &'a GroupRule<'a>,
}

impl std::fmt::Debug for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "group of `{}`", self.output)
    }
}

/// What the rule of a group builds from.
#[derive(Debug, Clone)]
pub struct GroupGradient {
    /// The group's inputs.
    pub inputs: Vec<ValueId>,
    /// Its result.
    pub output: ValueId,
    /// The gradient of the result.
    pub d_output: ValueId,
}

/// A function as forward and backward.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The function, which also returns what backward needs; named as the function is.
    pub forward: Function,
    /// The gradients; named as the function is.
    pub backward: Function,
}

/// The prefix of a gradient's name.
pub const GRADIENT_PREFIX: &str = "d_";

/// Differentiates a function of a program.
///
/// Dimensions that a rule needs must be known: [`specialize`](crate::specialize::specialize) settles them.
///
/// # Errors
///
/// When a name stands for nothing that can be differentiated, an op on the way has no gradient, or a dimension that its
/// rule needs is not known.
pub fn differentiate(program: &Verified, function: &str, request: &Request<'_>) -> Result<Pair, GradError> {
    let position = program.program().functions.iter().position(|f| f.name == function);
    let position = position.ok_or_else(|| GradError::NoFunction(function.to_string()))?;
    let version = program.program().version;
    let mut function = program.program().functions[position].clone();
    // Dimensions that the declarations leave open, and the type rules know.
    let facts = program.facts(position);
    for (index, value) in function.values.iter_mut().enumerate() {
        value.ty = facts.ty(ValueId(index as u32)).clone();
    }
    remove_what_is_not_named(&mut function, request);
    passes::bind_literals(&mut function, version.dialect());
    function.compact();
    let names = Names::of(&mut function, request)?;
    let own_ops = function.ops.len();
    let mut joint = Joint::new(function, version, &names);
    let gradients = joint.differentiate(request, &names)?;
    let Joint { builder, cotangents, .. } = joint;
    let own_outputs = builder.function().body.outputs.clone();
    let mut function = builder.finish(own_outputs.iter().chain(&gradients).copied());
    let renamed = names.wrt.iter().zip(&gradients).map(|(wrt, &gradient)| (gradient, names.gradient(*wrt)));
    function.rename_all(renamed.collect(), version.dialect());
    // What the rules build twice, or what the function computes already, is computed once.
    let merged = passes::merge_common(&mut function, version.dialect());
    let kept = |id: &ValueId| merged.representatives.get(id).copied().unwrap_or(*id);
    let recompute = names.recompute.iter().map(kept).collect();
    let gradients = function.body.outputs.split_off(own_outputs.len());
    Ok(partition::partition(&function, own_ops, &cotangents, &gradients, &recompute))
}

/// Takes out what neither the results nor the request need; what the request names may be dead and is known all the same.
fn remove_what_is_not_named(function: &mut Function, request: &Request<'_>) {
    let outputs = function.body.outputs.len();
    let named = request.wrt.iter().chain(&request.constant).chain(&request.recompute);
    let named = named.filter_map(|name| function.value_named(name));
    let named: Vec<ValueId> = named.collect();
    function.body.outputs.extend(named);
    passes::remove_dead_code(function);
    function.body.outputs.truncate(outputs);
}

/// The ids of what a request names.
struct Names {
    of: Vec<ValueId>,
    wrt: Vec<ValueId>,
    constant: HashSet<ValueId>,
    recompute: Vec<ValueId>,
    /// The names of the gradients, by what they are gradients of.
    gradients: HashMap<ValueId, String>,
}

impl Names {
    /// The name of the gradient of a result, or of what is differentiated by.
    fn gradient(&self, of: ValueId) -> String {
        self.gradients.get(&of).cloned().unwrap_or_default()
    }

    fn of(function: &mut Function, request: &Request<'_>) -> Result<Names, GradError> {
        let of = outputs(function, &request.of)?;
        let variables = variables(function);
        let variable = |name: &&str| variable(function, &variables, name);
        let wrt = request.wrt.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
        let mut seen = HashSet::new();
        if let Some(twice) = request.wrt.iter().find(|name| !seen.insert(**name)) {
            return Err(GradError::Name(format!("`{twice}` is named twice")));
        }
        if let Some(&id) = wrt.iter().find(|id| of.contains(id)) {
            let name = &function.value(id).name;
            return Err(GradError::Name(format!(
                "`{name}` is a result and what it is differentiated by: its gradients would have one name"
            )));
        }
        let constant = request.constant.iter().map(|name| named(function, name));
        let constant = constant.collect::<Result<_, _>>()?;
        let recompute = request.recompute.iter().map(|name| recomputed(function, name));
        let recompute = recompute.collect::<Result<_, _>>()?;
        let named =
            of.iter().chain(&wrt).map(|&id| (id, format!("{GRADIENT_PREFIX}{}", function.value(id).name)));
        let gradients = named.collect();
        let names = Names { constant, recompute, of, wrt, gradients };
        free_names(function, &names)?;
        Ok(names)
    }
}

fn named(function: &Function, name: &str) -> Result<ValueId, GradError> {
    function.value_named(name).ok_or_else(|| {
        let near = crate::suggest::nearest(name, function.values.iter().map(|value| value.name.as_str()));
        let hint = near.map_or_else(
            || {
                let inputs = function.body.inputs.iter().map(|&id| format!("`{}`", function.value(id).name));
                format!("; the inputs are {}", inputs.collect::<Vec<_>>().join(", "))
            },
            |near| format!("; the nearest name is `{near}`"),
        );
        GradError::Name(format!("nothing is named `{name}`{hint}"))
    })
}

/// The results to differentiate.
fn outputs(function: &Function, names: &[&str]) -> Result<Vec<ValueId>, GradError> {
    let outputs = &function.body.outputs;
    let is_float = |id: ValueId| function.value(id).ty.dtype().is_some_and(|dtype| dtype.is_float());
    if names.is_empty() {
        let mut floats: Vec<ValueId> = Vec::new();
        for &id in outputs.iter().filter(|&&id| is_float(id)) {
            if !floats.contains(&id) {
                floats.push(id);
            }
        }
        if floats.is_empty() {
            let message = format!("no result of `{}` is of floating point", function.name);
            return Err(GradError::Name(message));
        }
        return Ok(floats);
    }
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let id = named(function, name)?;
        if !outputs.contains(&id) {
            let present: Vec<&str> = outputs.iter().map(|&id| function.value(id).name.as_str()).collect();
            let message =
                format!("`{name}` is no result of `{}`: it gives {}", function.name, present.join(", "));
            return Err(GradError::Name(message));
        }
        if !is_float(id) {
            let message = format!("`{name}` is {}: only floating point has gradients", function.value(id).ty);
            return Err(GradError::Name(message));
        }
        if chosen.contains(&id) {
            return Err(GradError::Name(format!("`{name}` is named twice")));
        }
        chosen.push(id);
    }
    Ok(chosen)
}

/// The inputs and constants of a function outside nested blocks, by name.
fn variables(function: &Function) -> HashMap<String, ValueId> {
    let ops = function.body.ops.iter().map(|&id| function.op(id));
    let constants = ops.filter(|op| op.name == CONST).flat_map(|op| &op.results);
    let variables = function.body.inputs.iter().chain(constants);
    variables.map(|&id| (function.value(id).name.clone(), id)).collect()
}

/// An input or constant of floating point.
fn variable(
    function: &Function,
    variables: &HashMap<String, ValueId>,
    name: &str,
) -> Result<ValueId, GradError> {
    let Some(&id) = variables.get(name) else {
        named(function, name)?;
        return Err(GradError::Name(format!(
            "`{name}` is computed: a gradient is taken with respect to inputs and constants"
        )));
    };
    match &function.value(id).ty {
        Type::State(_) => Err(GradError::Name(format!("`{name}` is a state, and has no gradient"))),
        ty if ty.dtype().is_some_and(|dtype| dtype.is_float()) => Ok(id),
        ty => Err(GradError::Name(format!("`{name}` is {ty}: only floating point has gradients"))),
    }
}

/// A value that an op computes, and can compute again.
fn recomputed(function: &Function, name: &str) -> Result<ValueId, GradError> {
    let id = named(function, name)?;
    let maker = function.body.ops.iter().map(|&op| function.op(op)).find(|op| op.results.contains(&id));
    let Some(op) = maker.filter(|op| op.name != CONST) else {
        let message = format!("`{name}` is not computed by the function: it cannot be computed again");
        return Err(GradError::Name(message));
    };
    let row = crate::ops::lookup(&op.name, op.opset.unwrap_or(function.opset));
    if row.is_none_or(|row| row.stateful) || !op.blocks.is_empty() {
        let message = format!("`{name}` cannot be computed again: {} may give something else then", op.name);
        return Err(GradError::Name(message));
    }
    Ok(id)
}

/// Makes the names of the gradients free: what is computed on the way gives them up; inputs and results keep theirs.
fn free_names(function: &mut Function, names: &Names) -> Result<(), GradError> {
    let wanted: HashSet<&String> = names.gradients.values().collect();
    let mut taken: HashSet<String> = function.values.iter().map(|value| value.name.clone()).collect();
    let kept: HashSet<ValueId> = function.body.inputs.iter().chain(&function.body.outputs).copied().collect();
    for index in 0..function.values.len() {
        let name = &function.values[index].name;
        if !wanted.contains(name) {
            continue;
        }
        if kept.contains(&ValueId(index as u32)) {
            return Err(GradError::Name(format!(
                "`{name}` is the name of a gradient, and the function has it already"
            )));
        }
        let mut free = format!("{name}_");
        while taken.contains(&free) || wanted.contains(&free) {
            free.push('_');
        }
        taken.insert(free.clone());
        function.values[index].name = free;
    }
    Ok(())
}

/// A function to which its gradient is appended.
struct Joint {
    builder: FunctionBuilder,
    /// The gradient of each differentiated result, an input of backward.
    cotangents: Vec<ValueId>,
    /// The gradients found so far.
    gradients: HashMap<ValueId, ValueId>,
    /// The values that depend on what is differentiated with respect to.
    active: HashSet<ValueId>,
}

impl Joint {
    fn new(function: Function, version: crate::program::Version, names: &Names) -> Joint {
        let active = active(&function, names);
        let cotangent_types: Vec<(String, Type)> =
            names.of.iter().map(|&id| (names.gradient(id), function.value(id).ty.clone())).collect();
        let inputs = function.body.inputs.clone();
        let mut builder = FunctionBuilder::resume(function, version);
        let cotangents: Vec<ValueId> =
            cotangent_types.into_iter().map(|(name, ty)| builder.input(&name, ty)).collect();
        builder.set_inputs(inputs);
        names.wrt.iter().for_each(|&wrt| builder.reserve(names.gradient(wrt)));
        let gradients = HashMap::new();
        let mut joint = Joint { builder, cotangents, gradients, active };
        for (&of, &cotangent) in names.of.iter().zip(&joint.cotangents) {
            if joint.active.contains(&of) {
                joint.gradients.insert(of, cotangent);
            }
        }
        joint
    }

    /// Appends the gradient of every op, last op first; gives those asked for.
    fn differentiate(&mut self, request: &Request<'_>, names: &Names) -> Result<Vec<ValueId>, GradError> {
        let order: Vec<OpId> = self.builder.function().body.ops.iter().rev().copied().collect();
        let groups = request.groups.iter().map(|group| self.group(group)).collect::<Result<Vec<_>, _>>()?;
        for id in order {
            let results = self.builder.function().op(id).results.clone();
            if let Some((inputs, output, rule)) =
                groups.iter().find(|(_, output, _)| results.contains(output))
            {
                self.apply_group(inputs, *output, *rule)?;
                continue;
            }
            pull_back(&mut self.builder, &mut self.gradients, &self.active, id)?;
        }
        let mut shared: HashMap<ValueId, usize> = HashMap::new();
        for gradient in names.wrt.iter().filter_map(|wrt| self.gradients.get(wrt)) {
            *shared.entry(*gradient).or_default() += 1;
        }
        names.wrt.iter().map(|&wrt| self.gradient_of(wrt, names, &shared)).collect()
    }

    fn group<'a>(&self, group: &Group<'a>) -> Result<(Vec<ValueId>, ValueId, &'a GroupRule<'a>), GradError> {
        let function = self.builder.function();
        let inputs = group.inputs.iter().map(|name| named(function, name)).collect::<Result<_, _>>()?;
        Ok((inputs, named(function, group.output)?, group.rule))
    }

    fn apply_group(
        &mut self,
        inputs: &[ValueId],
        output: ValueId,
        rule: &GroupRule<'_>,
    ) -> Result<(), GradError> {
        let Some(&d_output) = self.gradients.get(&output) else { return Ok(()) };
        let gradient = GroupGradient { inputs: inputs.to_vec(), output, d_output };
        let given = rule(&gradient, &mut self.builder)?;
        for (&input, given) in inputs.iter().zip(given) {
            if self.active.contains(&input) {
                pullback::accumulate(&mut self.builder, &mut self.gradients, input, given)?;
            }
        }
        Ok(())
    }

    /// The gradient of what was asked for, bound to a value of its own; zeros where no result depends on it.
    /// `shared` says of how many each gradient is.
    fn gradient_of(
        &mut self,
        wrt: ValueId,
        names: &Names,
        shared: &HashMap<ValueId, usize>,
    ) -> Result<ValueId, GradError> {
        let name = names.gradient(wrt);
        let taken = |id: &ValueId| self.cotangents.contains(id);
        match self.gradients.get(&wrt).copied() {
            Some(id) if !taken(&id) && shared.get(&id) == Some(&1) => Ok(id),
            // A value may be the gradient of two inputs, or that of a result.
            Some(id) => Ok(self.builder.bind(&name, crate::ops::call::identity(id))?),
            None => {
                let operand = self.builder.operand(wrt);
                let ty = operand.and_then(|operand| Some((operand.dtype(), operand.shape().to_known()?)));
                let zeros = ty.and_then(|(dtype, dims)| Tensor::zeros(dtype, &dims));
                let zeros = zeros
                    .ok_or_else(|| GradError::Name(format!("the dimensions of `{name}` are not known")))?;
                Ok(self.builder.bind(&name, crate::ops::call::identity(zeros))?)
            }
        }
    }
}

/// Appends the gradients of an op's operands; nothing, where none of its results has one.
fn pull_back(
    builder: &mut FunctionBuilder,
    gradients: &mut HashMap<ValueId, ValueId>,
    active: &HashSet<ValueId>,
    id: OpId,
) -> Result<(), GradError> {
    let function = builder.function();
    let op = function.op(id).clone();
    let wanted = op.results.iter().any(|result| gradients.contains_key(result));
    if op.name == CONST || !wanted {
        return Ok(());
    }
    let value = op.results.first().map(|&result| function.value(result).name.clone()).unwrap_or_default();
    let no_gradient = |reason: &str| GradError::NoGradient {
        op: op.name.clone(),
        value: value.clone(),
        reason: reason.to_string(),
    };
    let Some(row) = crate::ops::lookup(&op.name, op.opset.unwrap_or(function.opset)) else {
        return Err(no_gradient("it is not known here"));
    };
    if !op.blocks.is_empty() {
        return Err(no_gradient("what blocks do depends on the run"));
    }
    // A plain number is no operand to the rule, which can give it nothing.
    let plain = |(name, argument): (&str, &Argument)| {
        let number = row.parameter(name).is_some_and(|parameter| parameter.kind.dtypes.is_some());
        (number && argument.values().any(|id| active.contains(&id))).then(|| name.to_string())
    };
    if let Some(name) = op.arguments.iter().find_map(plain) {
        return Err(no_gradient(&format!("its parameter `{name}` is a plain number to it")));
    }
    let rule = match row.gradient {
        Gradient::Rule(rule) => rule,
        Gradient::None(reason) => return Err(no_gradient(reason)),
        Gradient::Unsaid => return Err(no_gradient("its operands or results are not of floating point")),
    };
    let fail = |error| GradError::Rule { op: op.name.clone(), value: value.clone(), error: Box::new(error) };
    let operands = bind::operands(&op, row, builder.facts()).map_err(fail)?;
    let mut pullback = Pullback::new(builder, gradients, active, &op.results, &value);
    rule(&operands, &mut pullback).map_err(fail)
}

/// The values through which gradients go: of floating point, not held constant, and computed from what is
/// differentiated with respect to.
fn active(function: &Function, names: &Names) -> HashSet<ValueId> {
    let mut active: HashSet<ValueId> = names.wrt.iter().copied().collect();
    for &id in &function.body.ops {
        let op = function.op(id);
        let nested =
            || op.blocks.iter().flat_map(|block| function.captures(block)).any(|id| active.contains(&id));
        if !op.reads().any(|id| active.contains(&id)) && !nested() {
            continue;
        }
        let float = |id: &&ValueId| function.value(**id).ty.dtype().is_some_and(|dtype| dtype.is_float());
        let results = op.results.iter().filter(float).filter(|id| !names.constant.contains(id));
        active.extend(results.copied().collect::<Vec<_>>());
        // What is written to a state is read from it again.
        let is_state = |id: &ValueId| matches!(function.value(*id).ty, Type::State(_));
        active.extend(op.reads().filter(is_state).collect::<Vec<_>>());
    }
    active
}
