//! What findings are about, and how grave they are.

use std::fmt;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The program is wrong.
    Error,
    /// The program is right, but may be meant otherwise, or refused elsewhere.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// What kind of mistake an error reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The text does not follow the grammar.
    Syntax,
    /// A number, string or list does not fit the type it is written under.
    Literal,
    /// A name is used that nothing binds.
    UndefinedName,
    /// A name is used before the statement that binds it.
    UseBeforeDefinition,
    /// A name is bound, or an argument or attribute given, more than once.
    Redefinition,
    /// A value has a name that is a word of the language.
    ReservedName,
    /// A nested block where the op takes none.
    NestedBlock,
    /// No op has this name.
    UnknownOp,
    /// An op, element type or scalar form that this opset or program version lacks.
    Version,
    /// A required parameter is missing.
    MissingParameter,
    /// The op has no such parameter.
    UnknownParameter,
    /// A single value where several are needed, or the other way round; or not a tensor at all.
    OperandKind,
    /// The parameter must be a constant.
    NotConstant,
    /// An element type that the parameter does not take, or that differs from a related one.
    ElementType,
    /// What the op's own rule refuses: rank, shape, axis, value.
    Rule,
    /// A declared type that is not the inferred one, or another number of results.
    DeclaredType,
    /// A constant without a value, or with one that does not fit its type.
    Constant,
    /// A blob that is missing, damaged or not the one declared.
    Blob,
    /// Ids that are out of range, or used where they are not defined: a faulty builder, not a faulty text.
    Malformed,
    /// A number that can be read in two ways.
    AmbiguousNumber,
    /// A number beyond the largest that its type has, which becomes an infinity.
    Overflow,
    /// A parameter that may be left out here, but not everywhere.
    OmittedParameter,
    /// What a backend's rule of this number refuses or warns of.
    Numbered(u8),
}

impl ErrorKind {
    /// The kind as a word for programs, such as `unknown-op`; of a numbered rule, `R17`.
    ///
    /// ```
    /// use anemone_mil::error::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::UnknownOp.code(), "unknown-op");
    /// assert_eq!(ErrorKind::Numbered(17).code(), "R17");
    /// ```
    pub fn code(self) -> String {
        if let ErrorKind::Numbered(number) = self {
            return format!("R{number}");
        }
        let mut code = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !code.is_empty() {
                code.push('-');
            }
            code.push(letter.to_ascii_lowercase());
        }
        code
    }
}
