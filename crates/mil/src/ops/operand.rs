//! What an op is given: operands by parameter name.

use std::sync::Arc;

use crate::error::ErrorKind;
use crate::ops::{OpError, Parameter};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType, Type};

/// One operand as an op's functions see it, whether it came as a value, as a literal in place, or as an
/// attribute.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Element type and shape; of a state, those of the tensor it holds. A scalar has rank 0.
    pub ty: TensorType,
    /// Whether the value is fixed before the program runs.
    pub constant: bool,
    /// The value, where it is known: constants while verifying, everything while running.
    pub value: Option<Arc<Tensor>>,
    /// The value's id, unless the operand is a literal.
    pub id: Option<ValueId>,
    /// Whether the operand is a state.
    pub is_state: bool,
    /// Whether the operand is a list; its type and value are those of the tensor that keeps it, whose first dimension is
    /// the list's length.
    pub is_list: bool,
}

impl Operand {
    /// A constant.
    pub fn constant(tensor: Arc<Tensor>) -> Operand {
        Operand {
            ty: tensor.ty(),
            constant: true,
            value: Some(tensor),
            id: None,
            is_state: false,
            is_list: false,
        }
    }

    /// A value of which only the type is known.
    pub fn of_type(ty: TensorType) -> Operand {
        Operand { ty, constant: false, value: None, id: None, is_state: false, is_list: false }
    }

    /// The operand with the value that it has in a run. The declared element type stays: without rounding, the value's
    /// own is fp64. So does the length of a list, whose `?` says that it can grow.
    #[must_use]
    pub fn holding(self, value: Arc<Tensor>) -> Operand {
        let mut shape = value.ty().shape;
        if let (true, Some(length), Some(declared)) =
            (self.is_list, shape.0.first_mut(), self.ty.shape.0.first())
        {
            *length = *declared;
        }
        Operand { ty: TensorType { dtype: self.ty.dtype, shape }, value: Some(value), ..self }
    }

    /// The type of the value that the operand stands for.
    pub fn held_type(&self) -> Type {
        if self.is_list { Type::list_of(self.ty.clone()) } else { Type::Tensor(self.ty.clone()) }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// Dimensions, some of them perhaps `?`.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.ty.shape.rank()
    }

    /// The integers of a rank-0 or rank-1 operand whose value is known.
    pub fn known_integers(&self) -> Option<Vec<i64>> {
        self.value.as_ref()?.to_i64()
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// When it is not known yet.
    pub fn tensor(&self) -> Result<&Arc<Tensor>, OpError> {
        self.value
            .as_ref()
            .ok_or_else(|| OpError::new(ErrorKind::NotConstant, None, "an operand's value is not known here"))
    }
}

/// What an op was given for one parameter.
#[derive(Debug, Clone)]
pub enum Given {
    /// One operand.
    One(Operand),
    /// Several, in parentheses.
    Tuple(Vec<Operand>),
}

/// Everything that an op was given, by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Operands<'a>(pub Vec<(&'a str, Given)>);

impl Operands<'_> {
    /// What was given for a parameter.
    pub fn get(&self, parameter: &str) -> Option<&Given> {
        self.0.iter().find(|(name, _)| *name == parameter).map(|(_, given)| given)
    }

    /// Every operand, tuples spread out.
    pub fn iter(&self) -> impl Iterator<Item = &Operand> {
        self.0.iter().flat_map(|(_, given)| match given {
            Given::One(operand) => std::slice::from_ref(operand),
            Given::Tuple(operands) => operands,
        })
    }

    /// As [`Operands::iter`], to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Operand> {
        self.0.iter_mut().flat_map(|(_, given)| match given {
            Given::One(operand) => std::slice::from_mut(operand),
            Given::Tuple(operands) => operands,
        })
    }

    /// The elements of all operands together, of those whose shapes are known.
    pub fn elements(&self) -> u64 {
        self.iter().filter_map(|operand| operand.ty.shape.elements()).fold(0, u64::saturating_add)
    }

    /// The typed value of a parameter.
    ///
    /// # Errors
    ///
    /// When it is missing without having a default, or is not of the parameter's form.
    pub fn bind<P: Parameter>(&self, name: &str, default: Option<P>) -> Result<P, OpError> {
        match self.get(name) {
            Some(given) => P::bind(given).map_err(|mut error| {
                error.parameter = Some(name.to_string());
                error
            }),
            None => default.or_else(P::absent).ok_or_else(|| {
                OpError::new(ErrorKind::MissingParameter, Some(name), "this parameter is required")
            }),
        }
    }
}
