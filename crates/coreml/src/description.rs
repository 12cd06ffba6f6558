//! What a model takes and gives: names, shapes, images, states, defaults, and the functions that it has.
//!
//! The bytes that a description was read from are kept, so that one which only passes through is written as it was.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use thiserror::Error;

use crate::proto::description as proto;

mod decode;
mod encode;
mod features;
mod fits;
mod infer;

pub use features::{
    ArrayFeature, ArrayType, ColorSpace, DefaultElement, Feature, FeatureKind, ImageFeature, ImageSizes,
};
pub use infer::infer;

pub use features::{Item, Shapes, SizeRange};

/// Why bytes are no description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the model's description is no message of protocol buffers: {0}")]
pub struct DescriptionError(#[from] prost::DecodeError);

/// A model's description, with the bytes that it is kept in.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    bytes: Vec<u8>,
    model: ModelDescription,
}

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelDescription {
    /// What the only function takes, or, with several, nothing.
    pub main: Signature,
    /// The functions, where there are several.
    pub functions: Vec<(String, Signature)>,
    /// The function that runs unless another is asked for; empty where there is one.
    pub default_function: String,
    /// What training takes beside.
    pub training_inputs: Vec<Feature>,
    /// Who made it and what for.
    pub metadata: Option<Metadata>,
}

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<Feature>,
    /// Outputs.
    pub outputs: Vec<Feature>,
    /// States.
    pub states: Vec<Feature>,
    /// The output that is a classifier's answer; empty where it is none.
    pub predicted_feature: String,
    /// The output with the probability of each label; empty where there is none.
    pub predicted_probabilities: String,
}

/// Who made a model and what for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// What it does.
    pub short_description: String,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub author: String,
    /// On what terms it may be used.
    pub license: String,
    /// Whatever else was noted, by name.
    pub user_defined: BTreeMap<String, String>,
}

impl Description {
    /// Reads a description; keeps its bytes.
    ///
    /// # Errors
    ///
    /// When they are no such message.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Description, DescriptionError> {
        let message = proto::ModelDescription::decode(bytes.as_slice())?;
        Ok(Description { bytes, model: decode::model(message) })
    }

    /// The description's message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn model(&self) -> &ModelDescription {
        &self.model
    }
}

impl From<ModelDescription> for Description {
    fn from(model: ModelDescription) -> Description {
        Description { bytes: encode::model(&model).encode_to_vec(), model }
    }
}

impl ModelDescription {
    /// What the function of this name takes and gives; where none are named, there is one.
    pub fn function(&self, name: &str) -> Option<&Signature> {
        if self.functions.is_empty() {
            return Some(&self.main);
        }
        self.functions.iter().find(|(known, _)| known == name).map(|(_, signature)| signature)
    }

    /// The same for many functions: a program may have thousands.
    pub fn by_function<'a>(&'a self) -> impl Fn(&str) -> Option<&'a Signature> {
        // Of several with one name the first counts.
        let named: HashMap<&str, &Signature> =
            self.functions.iter().rev().map(|(name, signature)| (name.as_str(), signature)).collect();
        move |name| if self.functions.is_empty() { Some(&self.main) } else { named.get(name).copied() }
    }
}
