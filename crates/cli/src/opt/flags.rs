//! What `opt` is told of inputs.

use std::ffi::OsString;
use std::path::PathBuf;

use anemone_mil::types::TensorType;
use anemone_model::passes::parse_type;
use clap_lex::OsStrExt;

/// What is given for an input.
#[derive(Debug, Clone)]
pub(super) struct GivenInput {
    /// The input's name.
    pub name: String,
    /// Its type or value.
    pub given: Given,
}

/// The type or value of an input.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Type(TensorType),
    File(PathBuf),
}

impl GivenInput {
    /// `NAME=DTYPE[D,…]`, where a scalar may do without brackets, or `NAME=FILE.npy`.
    pub(super) fn parse(text: OsString) -> Result<GivenInput, String> {
        let Some((name, given)) =
            text.split_once("=").filter(|(name, given)| !name.is_empty() && !given.is_empty())
        else {
            return Err("NAME=DTYPE[D,…] or NAME=FILE.npy is expected".to_string());
        };
        let name = name.to_str().ok_or("the NAME is not UTF-8")?.to_string();
        let given = match given.to_str().map(parse_type) {
            Some(Some(ty)) => Given::Type(ty?),
            _ => Given::File(given.into()),
        };
        Ok(GivenInput { name, given })
    }

    /// The file, if one is given.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.given {
            Given::File(file) => Some(file.clone()),
            Given::Type(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match GivenInput::parse(text.into()) {
            Ok(GivenInput { name, given: Given::Type(ty) }) => format!("{name}: {ty}"),
            Ok(GivenInput { name, given: Given::File(file) }) => format!("{name} in {}", file.display()),
            Err(error) => error,
        }
    }

    #[test]
    fn an_input_is_given_a_type_or_a_file() {
        assert_eq!(parsed("x=fp16[1,64]"), "x: tensor<fp16, [1, 64]>");
        assert_eq!(parsed("x=int32[]"), "x: tensor<int32, []>");
        assert_eq!(parsed("x=bool"), "x: tensor<bool, []>");
        assert_eq!(parsed("x=fp32[ 2, 0 ]"), "x: tensor<fp32, [2, 0]>");
        assert_eq!(parsed("x=a[1].npy"), "x in a[1].npy");
        assert_eq!(parsed("x=./fp16"), "x in ./fp16");
        for wrong in ["x=fp16[1", "x=fp16[-1]", "x=fp16[?]", "x=fp16[1,]", "x=fp16[99999999999,99999999999]"]
        {
            assert!(parsed(wrong).contains("is no type"), "{wrong}: {}", parsed(wrong));
        }
        for wrong in ["x", "x=", "=fp16[1]"] {
            assert!(parsed(wrong).contains("is expected"), "{wrong}");
        }
    }
}
