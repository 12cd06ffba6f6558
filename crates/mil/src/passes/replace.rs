//! Replacing ops by others that compute the same, for passes of other crates.

use std::collections::{HashMap, HashSet};

use super::{PassError, Rewritten, dead_code, finish};
use crate::bind::{self, Facts};
use crate::builder::{BuildError, FunctionBuilder};
use crate::ops::{OpDef, Operand, Row};
use crate::program::{Argument, Dialect, Function, IdMap, Op, OpId, Uses, ValueId};
use crate::types::TensorType;
use crate::verify::Verified;

/// The ops of a function of a verified program, with who gives and who uses each value.
#[derive(Debug)]
pub struct Sites<'a> {
    program: &'a Verified,
    index: usize,
    givers: Vec<Option<OpId>>,
    uses: Uses,
}

impl<'a> Sites<'a> {
    /// Those of the function at a position.
    pub fn of(program: &'a Verified, index: usize) -> Sites<'a> {
        let function = &program.program().functions[index];
        let mut givers = vec![None; function.values.len()];
        for (id, op) in function.walk() {
            op.results.iter().for_each(|result| givers[result.index()] = Some(id));
        }
        Sites { program, index, givers, uses: function.uses() }
    }

    /// The op that gives a value; none gives an input.
    pub fn giver(&self, value: ValueId) -> Option<Site<'_>> {
        let id = self.givers[value.index()]?;
        Some(Site { sites: self, id })
    }

    /// An op of the function.
    pub fn at(&self, id: OpId) -> Site<'_> {
        Site { sites: self, id }
    }

    /// The ops that read a value.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = Site<'_>> {
        self.uses.ops(value).iter().map(|&id| Site { sites: self, id })
    }
}

/// An op of a verified program, and what is around it.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    sites: &'a Sites<'a>,
    id: OpId,
}

impl<'a> Site<'a> {
    /// The function that the op stands in.
    pub fn function(&self) -> &'a Function {
        &self.sites.program.program().functions[self.sites.index]
    }

    /// What is known of the function's values.
    pub fn facts(&self) -> &'a Facts {
        self.sites.program.facts(self.sites.index)
    }

    /// The op.
    pub fn op(&self) -> &'a Op {
        self.function().op(self.id)
    }

    /// The op's row, if it is known.
    pub fn row(&self) -> Option<&'static OpDef> {
        self.sites.program.row(self.sites.index, self.id)
    }

    /// Whether it is the op of this row.
    pub fn is_a<R: Row>(&self) -> bool {
        self.row().is_some_and(|row| row.name == R::BASE.name)
    }

    /// The op's parameters, where it is the op of this row and each of its operands is a value with a name, or a
    /// constant that is known.
    pub fn bound<R: Row>(&self) -> Option<R> {
        let row = self.row().filter(|_| self.is_a::<R>())?;
        let operands = bind::operands(self.op(), row, self.facts()).ok()?;
        let at_hand = |operand: &Operand| operand.id.is_some() || operand.value.is_some();
        operands.iter().all(at_hand).then(|| R::bind(&operands, row.since).ok())?
    }

    /// Whether a parameter is given.
    pub fn is_given(&self, parameter: &str) -> bool {
        self.op().arguments.get(parameter).is_some()
    }

    /// The values that the op is given for a parameter.
    pub fn values(&self, parameter: &str) -> impl Iterator<Item = ValueId> + 'a {
        self.op().arguments.get(parameter).into_iter().flat_map(Argument::values)
    }

    /// The name of the op's first result.
    pub fn name(&self) -> &'a str {
        self.op().results.first().map_or("", |&result| &self.function().value(result).name)
    }

    /// The type of the op's first result, as far as it is known.
    pub fn ty(&self) -> Option<TensorType> {
        self.facts().ty(*self.op().results.first()?).as_tensor()
    }

    /// The type of a value, if it is a tensor.
    pub fn ty_of(&self, value: ValueId) -> Option<TensorType> {
        self.facts().ty(value).as_tensor()
    }

    /// The op that gives a value; none gives an input.
    pub fn giver(&self, value: ValueId) -> Option<Site<'a>> {
        self.sites.giver(value)
    }

    /// The ops that read a value.
    pub fn readers(&self, value: ValueId) -> impl Iterator<Item = Site<'a>> {
        self.sites.readers(value)
    }

    /// Whether a value is an output of the function or of a block.
    pub fn is_yielded(&self, value: ValueId) -> bool {
        self.sites.uses.yielded(value) > 0
    }
}

/// Replaces ops of a program: `replace` sees each that is needed, in order, builds others before it and gives what stands
/// for each of its results, or `None` to leave it. `said` puts the number of those replaced in words. What was needed and
/// is not any more is left out.
///
/// A result keeps its name and its id, and where one op gives all results, that op the id of the one that it replaces,
/// so that comments and places follow. What is given for a result that is an output must be new, as outputs keep their
/// names.
///
/// # Examples
///
/// ```
/// use anemone_mil::ops::{Square, call};
/// use anemone_mil::{passes, text, verify};
///
/// let source = r#"program(1.3)
/// {
///     func main<ios18>(tensor<fp32, [2]> x) {
///             tensor<fp32, [2]> y = square(x = x)[name = string("y")];
///         } -> (y);
/// }
/// "#;
/// let program = verify::verify(text::parse(source)?.program)?;
/// let replaced = passes::replace_ops(
///     &program,
///     |site, build| match site.bound::<Square>() {
///         Some(row) => Ok(Some(vec![build.bind(site.name(), call::mul(&row.x, &row.x))?])),
///         None => Ok(None),
///     },
///     |number| format!("{number} replaced"),
/// )?;
/// let written = text::write(replaced.program.program());
/// assert!(written.contains(r#"y = mul(x = x, y = x)[name = string("y")]"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Those of `replace`; [`PassError::Unsound`] where the result does not verify.
pub fn replace_ops(
    program: &Verified,
    mut replace: impl FnMut(Site<'_>, &mut FunctionBuilder) -> Result<Option<Vec<ValueId>>, BuildError>,
    said: impl Fn(usize) -> String,
) -> Result<Rewritten, PassError> {
    let mut changed = program.program().clone();
    let mut changes = Vec::new();
    for (index, function) in changed.functions.iter_mut().enumerate() {
        let before = &program.program().functions[index];
        let sites = Sites::of(program, index);
        let taken = std::mem::replace(function, Function::new("", before.opset));
        let mut builder = FunctionBuilder::resume(taken, program.program().version);
        let mut replaced = Vec::new();
        let needed = dead_code::needed(before);
        for (id, _) in before.walk().filter(|(id, _)| needed[id.index()]) {
            builder.insert_before(Some(id));
            if let Some(results) = replace(Site { sites: &sites, id }, &mut builder)? {
                replaced.push((id, results));
            }
        }
        if replaced.is_empty() {
            // Without what may have been built in vain.
            function.clone_from(before);
        } else {
            *function = builder.finish(before.body.outputs.iter().copied());
            put(function, before, &replaced, program.program().version.dialect());
            let needs = dead_code::needed(function);
            function.retain_ops(|id| needs[id.index()] || needed.get(id.index()) == Some(&false));
            changes.push(format!("`{}`: {}", function.name, said(replaced.len())));
        }
    }
    if changes.is_empty() { Ok(unchanged(program)) } else { finish(changed, changes) }
}

/// The program as it is.
fn unchanged(program: &Verified) -> Rewritten {
    let ids = program.program().functions.iter().map(IdMap::identity).collect();
    Rewritten { program: program.clone(), ids, changes: Vec::new() }
}

/// Puts what was built in the place of the ops replaced.
fn put(function: &mut Function, before: &Function, replaced: &[(OpId, Vec<ValueId>)], dialect: Dialect) {
    let mut stands_for: HashMap<ValueId, ValueId> = HashMap::new();
    let mut gone: HashSet<OpId> = replaced.iter().map(|(id, _)| *id).collect();
    for (id, results) in replaced {
        for (&old, &new) in before.op(*id).results.iter().zip(results) {
            if new.index() >= before.values.len() && !stands_for.contains_key(&new) {
                // The new value goes by the old one's id.
                stands_for.insert(new, old);
                function.values[old.index()].ty = function.value(new).ty.clone();
            } else {
                stands_for.insert(old, new);
            }
        }
    }
    let resolved: HashMap<ValueId, ValueId> =
        stands_for.keys().map(|&id| (id, resolve(&stands_for, id))).collect();
    function.rename_uses(&resolved);
    let mut binds: HashMap<ValueId, OpId> = HashMap::new();
    for (position, op) in function.ops.iter_mut().enumerate().skip(before.ops.len()) {
        let id = OpId(position as u32);
        for result in &mut op.results {
            *result = resolved.get(result).copied().unwrap_or(*result);
            binds.insert(*result, id);
        }
    }
    for (id, _) in replaced {
        let old = &before.op(*id).results;
        let new: HashSet<OpId> = old.iter().filter_map(|result| binds.get(result).copied()).collect();
        for &result in old {
            if let Some(&op) = binds.get(&result) {
                let name = before.value(result).name.clone();
                function.rename_result(op, result, name, dialect);
            }
        }
        if let ([result, ..], 1) = (old.as_slice(), new.len())
            && let Some(&op) = binds.get(result)
            && function.op(op).results == *old
        {
            function.ops[id.index()] = function.ops[op.index()].clone();
            gone.remove(id);
            gone.insert(op);
        }
    }
    function.retain_ops(|id| !gone.contains(&id));
}

/// Follows a value to what stands for it in the end.
fn resolve(stands_for: &HashMap<ValueId, ValueId>, mut id: ValueId) -> ValueId {
    // Each step leads to what stood earlier in the function, or to the id that is kept.
    for _ in 0..=stands_for.len() {
        match stands_for.get(&id) {
            Some(&next) => id = next,
            None => break,
        }
    }
    id
}
