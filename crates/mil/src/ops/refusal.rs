//! Why an op refuses what it is given.

use std::fmt;

use crate::error::ErrorKind;

/// The part of an op's nested blocks that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockFault {
    /// The parameters of the block at a position.
    Parameters(usize),
    /// What the block at a position yields.
    Outputs(usize),
}

/// Why an op refuses its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpError {
    /// The kind of mistake.
    pub kind: ErrorKind,
    /// The parameter at fault, where one is.
    pub parameter: Option<String>,
    /// The part of a block at fault, where one is.
    pub block: Option<BlockFault>,
    /// What is wrong.
    pub message: String,
    /// What was found, in a few words.
    pub label: String,
    /// The likely fix.
    pub help: Option<String>,
}

impl OpError {
    /// The op's rule refuses what it was given for `parameter`.
    pub fn rule(parameter: &str, message: impl Into<String>) -> OpError {
        OpError::new(ErrorKind::Rule, Some(parameter), message)
    }

    /// An error of some kind, about a parameter or the whole op.
    pub fn new(kind: ErrorKind, parameter: Option<&str>, message: impl Into<String>) -> OpError {
        OpError {
            kind,
            parameter: parameter.map(str::to_string),
            block: None,
            message: message.into(),
            label: String::new(),
            help: None,
        }
    }

    /// Blames a part of a block.
    #[must_use]
    pub fn in_block(mut self, fault: BlockFault) -> OpError {
        self.block = Some(fault);
        self
    }

    /// Adds the words shown at the place.
    #[must_use]
    pub fn found(mut self, label: impl Into<String>) -> OpError {
        self.label = label.into();
        self
    }

    /// Adds the likely fix.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> OpError {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parameter) = &self.parameter {
            write!(f, "`{parameter}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for OpError {}
