//! Flags that several subcommands have.

use anemone_cpu::ProductPrecision;
use anemone_lm::config::{Config, ConfigError, DeviceDtype, MAX_DIMENSION};
use anemone_lm::head::HeadKind;
use clap::ValueEnum;

/// A count, from its text: what is no number of this type, as -1, is refused with the range that the setting
/// has. The range itself is the configuration's to check, wherever the number came from.
pub(crate) fn count<T: TryFrom<u64>, const MIN: u64, const MAX: u64>(text: &str) -> Result<T, String> {
    let number = text.parse().ok().and_then(|number: u64| T::try_from(number).ok());
    number.ok_or_else(|| format!("must be a whole number in {MIN}..={MAX}"))
}

/// `--dtype`. No doc comments on variants: those would spread over `--help`, one line per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeName {
    Fp16,
    Fp32,
}

impl From<DtypeName> for DeviceDtype {
    fn from(name: DtypeName) -> DeviceDtype {
        match name {
            DtypeName::Fp16 => DeviceDtype::Fp16,
            DtypeName::Fp32 => DeviceDtype::Fp32,
        }
    }
}

/// `--products`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProductsName {
    Exact,
    Full,
    Bf16,
}

impl ProductsName {
    /// The name, as it is given.
    pub fn name(self) -> &'static str {
        match self {
            ProductsName::Exact => "exact",
            ProductsName::Full => "full",
            ProductsName::Bf16 => "bf16",
        }
    }
}

impl From<ProductsName> for ProductPrecision {
    fn from(name: ProductsName) -> ProductPrecision {
        match name {
            ProductsName::Exact => ProductPrecision::Exact,
            ProductsName::Full => ProductPrecision::Full,
            ProductsName::Bf16 => ProductPrecision::Bf16,
        }
    }
}

/// `--head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadName {
    Programs,
    Fused,
}

impl From<HeadName> for HeadKind {
    fn from(name: HeadName) -> HeadKind {
        match name {
            HeadName::Programs => HeadKind::Programs,
            HeadName::Fused => HeadKind::Fused,
        }
    }
}

/// The dimensions of a head.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct HeadDimensions {
    /// Vocabulary V, in tokens
    #[arg(long, value_name = "V", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 2, { MAX_DIMENSION as u64 }>)]
    pub vocab: usize,
    /// Model dimension D, in channels
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    pub dim: usize,
    /// Positions S, in tokens
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    #[arg(value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    pub seq: usize,
}

impl HeadDimensions {
    /// Checks that the head's tensors have sizes that a machine can hold.
    ///
    /// # Errors
    ///
    /// The first dimension, or product of two, that is out of range.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let mut config = Config::default();
        (config.model.vocab, config.model.dim) = (self.vocab, self.dim);
        (config.train.batch, config.train.seq) = (1, self.seq);
        config.validate()
    }
}
