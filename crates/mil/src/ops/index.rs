//! Indices: which elements or slices of a tensor they mean.

use crate::eval::room;
use crate::ops::{OpError, Operand, movement};
use crate::types::{Dim, Opset};

/// Indices along one dimension, and which of them are allowed.
pub(super) struct Indices<'a> {
    /// The indices.
    pub operand: &'a Operand,
    /// Whether negative ones count from the end.
    pub negative: bool,
    /// Whether constant ones are checked with the program.
    pub validate: bool,
}

impl<'a> Indices<'a> {
    /// The indices of an op as the signature of `since` takes them.
    pub(super) fn new(operand: &'a Operand, since: Opset, validate: bool) -> Indices<'a> {
        Indices { operand, negative: since < Opset::IOS17, validate }
    }

    /// The positions that the indices mean along a dimension of `length`.
    pub(super) fn positions(&self, length: usize) -> Result<Vec<usize>, OpError> {
        self.wrapped(|_| length)
    }

    /// The positions that the indices mean, each along a dimension of the length given for its place.
    fn wrapped(&self, length: impl Fn(usize) -> usize) -> Result<Vec<usize>, OpError> {
        let values = self.operand.integers()?;
        let mut positions = room(values.len())?;
        for (place, value) in values.into_iter().enumerate() {
            positions.push(movement::index("indices", value, length(place), self.negative)?);
        }
        Ok(positions)
    }

    /// Checks constant indices where that is asked for.
    pub(super) fn check(&self, length: Dim) -> Result<(), OpError> {
        if let Dim::Known(length) = length
            && self.validate
            && self.operand.constant
            && self.operand.value.is_some()
        {
            self.positions(usize::try_from(length).unwrap_or(usize::MAX))?;
        }
        Ok(())
    }
}

impl Indices<'_> {
    /// For each index of a tensor of shape `dims`, the element at its place with itself as the coordinate along `axis`,
    /// which is of `length`.
    pub(super) fn along(&self, axis: usize, length: usize, dims: &[usize]) -> Result<Vec<usize>, OpError> {
        let inner: usize = dims[axis + 1..].iter().product();
        let mut places = self.positions(length)?;
        for (i, place) in places.iter_mut().enumerate() {
            let outer = i / (dims[axis] * inner);
            *place = (outer * length + *place) * inner + i % inner;
        }
        Ok(places)
    }
}

/// Vectors of indices, along the last dimension of a tensor, each of which names a slice of another.
pub(super) struct IndexVectors<'a> {
    /// The vectors.
    pub indices: Indices<'a>,
    /// How many dimensions both share; a vector names slices of what is at its own place in them.
    pub batch: usize,
}

impl IndexVectors<'_> {
    /// The number of indices in a vector.
    fn depth(&self) -> Result<usize, OpError> {
        let found = |error: OpError| error.found(format!("found {}", self.indices.operand.ty));
        match self.indices.operand.shape().0.last() {
            None => Err(found(OpError::rule("indices", "must have at least one dimension"))),
            Some(Dim::Unknown) => Err(found(OpError::rule(
                "indices",
                "must have a known last dimension: the indices of a slice",
            ))),
            Some(Dim::Known(depth)) => Ok(usize::try_from(*depth).unwrap_or(usize::MAX)),
        }
    }

    /// The dimensions of the slices of `x`, one slice per vector.
    pub(super) fn slices(&self, x: &Operand) -> Result<Vec<Dim>, OpError> {
        let (depth, batch) = (self.depth()?, self.batch);
        let (x, indices) = (&x.shape().0, &self.indices.operand.shape().0);
        if depth > x.len() - batch {
            return Err(OpError::rule(
                "indices",
                format!("may hold at most {} indices a slice", x.len() - batch),
            )
            .found(format!("found {depth}")));
        }
        if let Some(i) = (0..batch).find(|&i| !x[i].agrees_with(indices[i])) {
            return Err(OpError::rule("indices", format!("must agree with `x` in batch dimension {i}"))
                .found(format!("found {} and {}", indices[i], x[i])));
        }
        self.check(&x[batch..batch + depth])?;
        let vectors =
            (0..indices.len() - 1).map(|i| if i < batch { x[i].or(indices[i]) } else { indices[i] });
        Ok(vectors.chain(x[batch + depth..].iter().copied()).collect())
    }

    /// Checks constant indices where that is asked for.
    fn check(&self, along: &[Dim]) -> Result<(), OpError> {
        let Indices { operand, validate, .. } = self.indices;
        let lengths: Option<Vec<usize>> = along
            .iter()
            .map(|dim| dim.known().map(|length| usize::try_from(length).unwrap_or(usize::MAX)))
            .collect();
        if let Some(lengths) = lengths
            && validate
            && operand.constant
            && operand.value.is_some()
        {
            self.indices.wrapped(|place| lengths[place % lengths.len()])?;
        }
        Ok(())
    }

    /// Where the slices of a tensor of shape `x` begin, and their length.
    pub(super) fn starts(&self, x: &[usize]) -> Result<(Vec<usize>, usize), OpError> {
        let (depth, batch) = (self.depth()?, self.batch);
        let along = &x[batch..batch + depth];
        let length = x[batch + depth..].iter().product();
        let vectors = self.indices.operand.dims()?;
        let count: usize = vectors[..vectors.len() - 1].iter().product();
        let per_batch = count / x[..batch].iter().product::<usize>().max(1);
        let positions = self.indices.wrapped(|place| along[place % depth])?;
        let mut starts = room(count)?;
        starts.extend((0..count).map(|number| {
            let vector = &positions[number * depth..][..depth];
            let first = if batch == 0 { 0 } else { number / per_batch };
            vector.iter().zip(along).fold(first, |start, (position, dim)| start * dim + position) * length
        }));
        Ok((starts, length))
    }
}
