//! What a rule sees of a program, and where it puts what it finds.

use anemone_mil::bind::{self, Facts};
use anemone_mil::error::{FunctionPart, OpPart, Place};
use anemone_mil::ops::{Given, OpDef, Operand, Operands, Row};
use anemone_mil::program::{Argument, Function, Op, OpId, Program, Uses, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::{CONST, Verified};

use super::{ALL, Check, Finding, Rule};
use crate::chips::Chips;

/// A function as its rules see it.
pub struct Scene<'a> {
    /// The program.
    pub program: &'a Program,
    /// The function's position.
    pub index: usize,
    /// The function.
    pub function: &'a Function,
    /// What is known of its values.
    pub facts: &'a Facts,
    /// Who uses each value.
    pub uses: Uses,
    verified: &'a Verified,
    /// The op that gives each value.
    givers: Vec<Option<OpId>>,
}

impl<'a> Scene<'a> {
    fn new(verified: &'a Verified, index: usize) -> Scene<'a> {
        let function = &verified.program().functions[index];
        let mut givers = vec![None; function.values.len()];
        for (id, op) in function.walk() {
            op.results.iter().for_each(|result| givers[result.index()] = Some(id));
        }
        let (program, facts, uses) = (verified.program(), verified.facts(index), function.uses());
        Scene { program, index, function, facts, uses, verified, givers }
    }

    /// The ops in order, those of nested blocks included, constants not.
    pub fn ops(&self) -> impl Iterator<Item = (OpId, &'a Op)> {
        self.function.walk().filter(|(_, op)| op.name != CONST)
    }

    /// As [`Scene::ops`], each with its operands.
    pub fn sites(&self) -> impl Iterator<Item = Site<'_>> {
        self.ops().map(|(id, op)| self.site(id, op))
    }

    /// The row of an op, if it is known.
    pub fn row(&self, op: OpId) -> Option<&'static OpDef> {
        self.verified.row(self.index, op)
    }

    /// The op that gives a value; none gives an input.
    pub fn giver(&self, value: ValueId) -> Option<&'a Op> {
        self.givers[value.index()].map(|id| self.function.op(id))
    }

    /// As [`Scene::giver`], with its operands.
    pub fn giver_site(&self, value: ValueId) -> Option<Site<'_>> {
        let id = self.givers[value.index()]?;
        Some(self.site(id, self.function.op(id)))
    }

    /// The type of the data that a value holds, a state's included.
    pub fn held(&self, value: ValueId) -> Option<TensorType> {
        self.facts.ty(value).held_tensor()
    }

    fn site<'s>(&'s self, id: OpId, op: &'s Op) -> Site<'s> {
        let row = self.row(id);
        let operands = row.and_then(|row| bind::operands(op, row, self.facts).ok()).unwrap_or_default();
        Site { scene: self, id, op, row, operands }
    }
}

/// An op as its rules see it.
pub struct Site<'a> {
    /// The function around it.
    pub scene: &'a Scene<'a>,
    /// Its id.
    pub id: OpId,
    /// The op.
    pub op: &'a Op,
    /// Its row, if it is known.
    pub row: Option<&'static OpDef>,
    /// Its operands; none where it is not known.
    pub operands: Operands<'a>,
}

impl<'a> Site<'a> {
    /// The op's name.
    pub fn name(&self) -> &'a str {
        &self.op.name
    }

    /// Its parameters, where it is the op of this row.
    pub fn bound<R: Row>(&self) -> Option<R> {
        let row = self.row.filter(|row| row.name == R::BASE.name)?;
        R::bind(&self.operands, row.since).ok()
    }

    /// What it is given for a parameter, unless that is a tuple.
    pub fn operand(&self, parameter: &str) -> Option<&Operand> {
        match self.operands.get(parameter)? {
            Given::One(operand) => Some(operand),
            Given::Tuple(_) => None,
        }
    }

    /// The op that gives an operand.
    pub fn giver(&self, operand: &Operand) -> Option<&'a Op> {
        self.scene.giver(operand.id?)
    }

    /// Whether an operand is a constant, or what an op that decompresses constants gives, which may be one not known.
    pub fn is_constant(&self, operand: &Operand) -> bool {
        operand.constant || self.giver(operand).is_some_and(|op| op.name.starts_with("constexpr_"))
    }

    /// What is known of the value of an argument of an op, whether its row is known or not.
    pub fn constant(&self, op: &'a Op, parameter: &str) -> Option<&'a Tensor> {
        match op.arguments.get(parameter)? {
            Argument::Value(id) => self.scene.facts.constant(*id).map(AsRef::as_ref),
            Argument::Literal(literal) => literal.as_tensor().map(AsRef::as_ref),
            Argument::Tuple(_) => None,
        }
    }

    /// The types of its results.
    pub fn results(&self) -> impl Iterator<Item = TensorType> {
        self.op.results.iter().filter_map(|&result| self.scene.held(result))
    }

    /// The types of its results and of its operands.
    pub fn types(&self) -> impl Iterator<Item = TensorType> {
        self.results().chain(self.operands.iter().map(|operand| operand.ty.clone()))
    }

    /// The element types of its results, and of those of its operands that are no constants.
    pub fn types_computed(&self) -> impl Iterator<Item = DType> {
        let computed = self.operands.iter().filter(|operand| !operand.constant);
        self.results().map(|ty| ty.dtype).chain(computed.map(Operand::dtype))
    }

    /// The place of its name.
    pub fn here(&self) -> FunctionPart {
        FunctionPart::Op(self.id, OpPart::Name)
    }

    /// The place of an argument; of the name, where it is not given.
    pub fn argument(&self, parameter: &str) -> FunctionPart {
        match self.op.arguments.position(parameter) {
            Some(position) => FunctionPart::Op(self.id, OpPart::Argument(position)),
            None => self.here(),
        }
    }
}

/// Where a rule puts what it finds in a function.
pub struct Report<'a> {
    rule: &'static Rule,
    chips: Chips,
    function: usize,
    findings: &'a mut Vec<Finding>,
}

impl Report<'_> {
    /// The chips that were asked for, of those that the rule is about.
    pub fn chips(&self) -> Chips {
        self.chips
    }

    /// On all its chips the rule is not kept here.
    pub fn found(&mut self, part: FunctionPart, message: impl Into<String>) {
        self.found_on(Chips::ALL, part, message);
    }

    /// As [`Report::found`], with what to write instead.
    pub fn found_with_help(&mut self, part: FunctionPart, message: impl Into<String>, help: String) {
        self.push(Chips::ALL, self.place(part), message.into(), Some(help), false);
    }

    /// On these chips, of all that it is about, the rule is not kept here.
    pub fn found_on(&mut self, chips: Chips, part: FunctionPart, message: impl Into<String>) {
        self.push(chips, self.place(part), message.into(), None, false);
    }

    /// On these chips the rule is not kept here for some values, which the text does not say.
    pub fn found_for_values(&mut self, chips: Chips, part: FunctionPart, message: impl Into<String>) {
        self.push(chips, self.place(part), message.into(), None, true);
    }

    /// The rule is not kept by the program as a whole, at this place.
    pub fn found_in_program(&mut self, place: Place, message: impl Into<String>) {
        self.push(Chips::ALL, place, message.into(), None, false);
    }

    fn place(&self, part: FunctionPart) -> Place {
        Place::Function(self.function, part)
    }

    fn push(&mut self, chips: Chips, place: Place, message: String, help: Option<String>, by_values: bool) {
        let (rule, chips) = (self.rule, self.chips.and(chips));
        if !chips.is_empty() {
            self.findings.push(Finding { rule, chips, place, message, help, by_values });
        }
    }
}

/// Checks one function.
pub(super) fn check_function(verified: &Verified, index: usize, chips: Chips, findings: &mut Vec<Finding>) {
    let scene = Scene::new(verified, index);
    let wanted: Vec<(&'static Rule, Chips)> =
        ALL.iter().map(|rule| (rule, rule.chips.and(chips))).filter(|(_, chips)| !chips.is_empty()).collect();
    let mut found = Vec::new();
    for &(rule, chips) in &wanted {
        if let Check::Functions(check) = rule.check {
            check(&scene, &mut Report { rule, chips, function: index, findings: &mut found });
        }
    }
    for (id, op) in scene.ops() {
        let site = scene.site(id, op);
        for &(rule, chips) in &wanted {
            if let Check::Ops(check) = rule.check {
                check(&site, &mut Report { rule, chips, function: index, findings: &mut found });
            }
        }
    }
    let mut order = vec![0; scene.function.ops.len()];
    scene.function.walk().enumerate().for_each(|(position, (id, _))| order[id.index()] = position);
    found.sort_by_key(|finding| position(finding.place, &order));
    findings.append(&mut found);
}

/// The order of places in a function's text.
fn position(place: Place, order: &[usize]) -> (u8, usize) {
    match place {
        Place::Version | Place::ProgramAttribute(_) => (0, 0),
        Place::Function(_, part) => match part {
            FunctionPart::Name | FunctionPart::Opset => (1, 0),
            FunctionPart::Input(index) | FunctionPart::InputName(index) => (2, index),
            FunctionPart::Attribute(index) => (3, index),
            FunctionPart::Op(id, _) => (4, order.get(id.index()).copied().unwrap_or(usize::MAX)),
            FunctionPart::Output(index) => (5, index),
        },
    }
}
