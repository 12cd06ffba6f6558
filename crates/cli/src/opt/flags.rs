//! What `opt` is told: passes, and what is given for inputs.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anemone_ane::legalize::{self, PASSES, Pass};
use anemone_mil::program::Version;
use anemone_mil::types::{DType, Shape, TensorType};
use clap_lex::OsStrExt;

/// A pass.
#[derive(Debug, Clone, Copy)]
pub(super) enum PassName {
    Specialize,
    DeadCode,
    CommonSubexpressions,
    FoldConstants,
    Bake,
    Unbake,
    Dialect(Version),
    /// All passes for the engine, until nothing changes.
    Legalize,
    /// One of them.
    Engine(&'static Pass),
}

impl PassName {
    const ALL: [PassName; 9] = [
        PassName::Specialize,
        PassName::DeadCode,
        PassName::CommonSubexpressions,
        PassName::FoldConstants,
        PassName::Bake,
        PassName::Unbake,
        PassName::Dialect(Version::V1_0),
        PassName::Dialect(Version::V1_3),
        PassName::Legalize,
    ];

    /// Every pass.
    fn all() -> impl Iterator<Item = PassName> {
        PassName::ALL.into_iter().chain(PASSES.iter().map(PassName::Engine))
    }

    /// Whether it is for the engine, and so for chips.
    pub(super) fn is_for_chips(self) -> bool {
        matches!(self, PassName::Legalize | PassName::Engine(_))
    }

    /// Whether it changes the function that is asked for, and no other.
    pub(super) fn changes_one_function(self) -> bool {
        matches!(self, PassName::Specialize | PassName::Bake | PassName::Unbake)
    }
}

impl fmt::Display for PassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PassName::Specialize => f.write_str("specialize"),
            PassName::DeadCode => f.write_str("dead-code"),
            PassName::CommonSubexpressions => f.write_str("common-subexpressions"),
            PassName::FoldConstants => f.write_str("fold-constants"),
            PassName::Bake => f.write_str("bake"),
            PassName::Unbake => f.write_str("unbake"),
            PassName::Dialect(version) => write!(f, "dialect={version}"),
            PassName::Legalize => f.write_str("legalize"),
            PassName::Engine(pass) => f.write_str(pass.name),
        }
    }
}

impl FromStr for PassName {
    type Err = String;

    fn from_str(text: &str) -> Result<PassName, String> {
        if let Some(pass) = legalize::pass(text) {
            return Ok(PassName::Engine(pass));
        }
        PassName::ALL.into_iter().find(|pass| pass.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = PassName::all().map(|pass| pass.to_string()).collect();
            format!("there is no such pass; there are {}", names.join(", "))
        })
    }
}

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
        let given = match given.to_str().map(tensor_type) {
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

/// The type that a text is meant as, if it begins as one does.
fn tensor_type(text: &str) -> Option<Result<TensorType, String>> {
    let (dtype, dims) = text.split_once('[').unwrap_or((text, "]"));
    let dtype = DType::from_name(dtype)?;
    let dims = dims.strip_suffix(']').map(str::trim);
    let lengths = match dims {
        Some("") => Some(Vec::new()),
        Some(dims) => dims.split(',').map(|length| length.trim().parse::<u64>().ok()).collect(),
        None => None,
    };
    let ty = lengths
        .map(|lengths| TensorType { dtype, shape: Shape(lengths.into_iter().map(Into::into).collect()) });
    Some(ty.filter(|ty| ty.shape.elements().is_some()).ok_or_else(|| {
        format!(
            "`{text}` is no type such as {dtype}[2,3]: dimensions are whole numbers that a tensor can have"
        )
    }))
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

    #[test]
    fn passes_have_names() {
        for pass in PassName::all() {
            let again = pass.to_string().parse::<PassName>().unwrap();
            assert_eq!(again.to_string(), pass.to_string());
        }
        assert!("dialect=2.0".parse::<PassName>().unwrap_err().contains("dialect=1.3"));
    }
}
