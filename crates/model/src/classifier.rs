//! Classifiers. A program ends in an op that makes of probabilities a label and a dictionary, which are no tensors: the
//! op is taken out before the program runs, and its work is done on what it would have been given.

use anemone_coreml::description::{ModelDescription, Signature};
use anemone_coreml::labels::Labels;
use anemone_mil::program::{Argument, Function, Program, ValueId};
use anemone_mil::tensor::Tensor;
use thiserror::Error;

/// The op, and its operand.
const CLASSIFY: &str = "classify";
const PROBABILITIES: &str = "probabilities";

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Label {
    /// A word.
    String(String),
    /// A whole number.
    Integer(i64),
}

/// The end of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classifier {
    /// The labels, in the order of the probabilities.
    labels: Labels,
    /// The output that has the probabilities in its place.
    pub(crate) probabilities: String,
}

/// Why a classifier cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClassifierError {
    /// The op that gives its answer is none that is known, or not given what it needs.
    #[error(
        "the answer `{0}` of the classifier is not given by an op `{CLASSIFY}` with its labels and probabilities"
    )]
    Unknown(String),
    /// Other labels than probabilities.
    #[error("the classifier has {labels} labels, and its probabilities are {probabilities}")]
    Count {
        /// How many labels there are.
        labels: usize,
        /// The type of the probabilities.
        probabilities: String,
    },
}

impl Classifier {
    /// Takes the last op out of each function that is described as a classifier. Gives that of the function `name`.
    ///
    /// # Errors
    ///
    /// When a function's answer comes of another op, or its labels are not constants.
    pub fn take(
        program: &mut Program,
        description: &ModelDescription,
        name: &str,
    ) -> Result<Option<Classifier>, ClassifierError> {
        let mut wanted = None;
        for function in &mut program.functions {
            let signature = description.function(&function.name);
            let Some(signature) = signature.filter(|signature| !signature.predicted_feature.is_empty())
            else {
                continue;
            };
            let taken = Classifier::take_from(function, signature)
                .ok_or_else(|| ClassifierError::Unknown(signature.predicted_feature.clone()))?;
            if function.name == name {
                wanted = Some(taken);
            }
        }
        Ok(wanted)
    }

    fn take_from(function: &mut Function, signature: &Signature) -> Option<Classifier> {
        let labels = Labels::of(function, signature)?;
        let answer = function.value_named(&signature.predicted_feature)?;
        let position = function.body.ops.iter().position(|&id| {
            function.ops.get(id.index()).is_some_and(|op| op.name == CLASSIFY && op.results.contains(&answer))
        })?;
        let op = function.ops.get(function.body.ops[position].index())?;
        let Some(&Argument::Value(probabilities)) = op.arguments.get(PROBABILITIES) else { return None };
        let results: Vec<ValueId> = op.results.clone();
        // What the op gives may be named like what it is given, but nothing else may read it.
        function.body.outputs.retain(|id| !results.contains(id));
        if !function.body.outputs.contains(&probabilities) {
            function.body.outputs.push(probabilities);
        }
        function.body.ops.remove(position);
        let probabilities = function.values.get(probabilities.index())?.name.clone();
        Some(Classifier { labels, probabilities })
    }

    /// The probability of each label, in their order, and the likeliest, the first of several.
    ///
    /// # Errors
    ///
    /// When there are not as many probabilities as labels.
    pub fn answer(&self, probabilities: &Tensor) -> Result<(Label, Vec<(Label, f64)>), ClassifierError> {
        let values = probabilities.to_f64().filter(|values| values.len() == self.labels.len());
        let values = values.filter(|values| !values.is_empty()).ok_or_else(|| ClassifierError::Count {
            labels: self.labels.len(),
            probabilities: probabilities.ty().to_string(),
        })?;
        let labels: Vec<Label> = match &self.labels {
            Labels::Strings(labels) => labels.iter().cloned().map(Label::String).collect(),
            Labels::Integers(labels) => labels.iter().copied().map(Label::Integer).collect(),
        };
        let mut likeliest = 0;
        for (index, value) in values.iter().enumerate() {
            if *value > values[likeliest] {
                likeliest = index;
            }
        }
        let answer = labels[likeliest].clone();
        Ok((answer, labels.into_iter().zip(values).collect()))
    }
}
