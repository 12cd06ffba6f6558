//! What a model keeps between predictions.

use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;

use super::PredictError;
use crate::numbers::convert;
use crate::source::list;

/// What a model keeps between predictions, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct States {
    pub(super) values: Vec<(String, Tensor)>,
}

impl States {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// What one holds.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Replaces what one holds, by numbers of any type.
    ///
    /// # Errors
    ///
    /// In words, when there is none of this name, or the value is not one of its type.
    pub fn set(&mut self, name: &str, value: Tensor) -> Result<(), PredictError> {
        let names: Vec<String> = self.names().map(str::to_string).collect();
        let Some((_, kept)) = self.values.iter_mut().find(|(known, _)| known == name) else {
            let message = format!("there is no state `{name}`; the states are {}", list(&names));
            return Err(PredictError::States(message));
        };
        let ty = kept.ty();
        if value.shape() != kept.shape() {
            let message = format!("the state `{name}` is {ty}, and the shape given is {:?}", value.shape());
            return Err(PredictError::States(message));
        }
        let converted = convert(value, ty.dtype);
        *kept =
            converted.map_err(|error| PredictError::States(format!("the state `{name}`, {ty}: {error}")))?;
        Ok(())
    }

    /// Those of some names, which must be among these.
    pub(super) fn of(&self, states: &[(String, TensorType)]) -> States {
        let one = |(name, _): &(String, TensorType)| Some((name.clone(), self.get(name)?.clone()));
        States { values: states.iter().filter_map(one).collect() }
    }

    /// Replaces what those hold that are among `others`.
    pub(super) fn replace(&mut self, others: States) {
        for (name, value) in others.values {
            if let Some((_, kept)) = self.values.iter_mut().find(|(known, _)| *known == name) {
                *kept = value;
            }
        }
    }

    /// Checks that these are the states of a function.
    pub(super) fn check(&self, expected: &[(String, TensorType)]) -> Result<(), PredictError> {
        let same = self.values.len() == expected.len()
            && expected.iter().all(|(name, ty)| self.get(name).is_some_and(|value| value.has_type(ty)));
        let message = "the state is another model's: `make_state` of this model gives one that fits";
        if same { Ok(()) } else { Err(PredictError::States(message.to_string())) }
    }
}
