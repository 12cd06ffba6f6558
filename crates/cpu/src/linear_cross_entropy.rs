//! The classifier and its loss in one, on slices: loss, dx and dE of a linear layer followed by a cross entropy,
//! without the logits of the whole vocabulary in memory.
//!
//! The vocabulary is cut into tiles. A first pass computes each tile's logits z = E·x + b in fp32 and finds, per
//! position, the largest logit and Σ exp(z − largest), which later tiles rescale: so every position's lse and
//! loss are known at its end. A second pass, for gradients, takes each tile's logits again (kept, where all of
//! them fit in [`Classifier::logits_bytes`], else computed anew), makes of them
//!
//! dz = w·((1 + 2λ·lse)·p − ε/V − (1 − ε)·onehot), times 1 − (z/c)² under a soft cap,
//!
//! and adds Eᵀ·dz to dx, and writes dz·xᵀ, the tile's rows of dE. Positions that are ignored are left out of all
//! of it. [`anemone_mil::linear_cross_entropy`] says what the options mean.
//!
//! Sums run in an order that only the sizes decide, so results do not depend on threads or timing.

mod columns;
mod filter;
mod positions;
mod slices;

use std::sync::Arc;

use anemone_mil::linear_cross_entropy::{Classifier, LossOptions, LossTotals, Reduction};
use anemone_mil::runtime::RuntimeError;

use crate::ProductPrecision;
use crate::element::{Float, is_float};
use crate::execution::zeros;
use crate::gemm::{Bias, Gemm, Matrix, Output, Precision};
use crate::memory::{Floats, FloatsMut, LINE_BYTES, Line};
use crate::plan::unsupported;
use crate::threads::Threads;
use columns::{Columns, Slope};
use filter::Filter;
use positions::{HeadProduct, Positions};

pub use slices::{SliceGradients, SliceInputs};

/// Rows of a tile: enough for a matrix product to be worth its packing, few enough for the tile's logits to stay
/// in the cache.
const TILE: usize = 1024;

/// A classifier's loss, ready to run.
pub struct FusedHead {
    threads: Arc<Threads>,
    classifier: Classifier,
    options: LossOptions,
    /// Whether the logits of all tiles are kept between the passes.
    keeps: bool,
    /// How exact products must be.
    precision: Precision,
    /// The positions that count, and their targets.
    counted: Vec<(usize, usize)>,
    columns: Columns,
    x: Positions,
    /// dx of the counted positions, `[D, n]`.
    dx: Vec<f32>,
    /// Logits: `[V, n]` if kept, else one tile's, and then their gradients.
    z: Vec<f32>,
    /// A tile's gradients, if logits are kept: writing over these would take them through memory once more.
    dz: Vec<f32>,
    filter: Filter,
    scratch: Vec<Line>,
}

/// Makes room for so many fp32 values, the first of which begins a cache line.
fn grow(room: &mut Vec<Line>, values: usize) -> Result<(), RuntimeError> {
    let lines = values.div_ceil(LINE_BYTES / size_of::<f32>());
    if room.len() < lines {
        *room = zeros(lines)?;
    }
    Ok(())
}

fn interface(message: String) -> RuntimeError {
    RuntimeError::Interface(message)
}

impl FusedHead {
    /// A classifier of these sizes; the first run takes the rest of the memory that runs need.
    pub(crate) fn new(
        threads: Arc<Threads>,
        classifier: Classifier,
        options: LossOptions,
    ) -> Result<FusedHead, RuntimeError> {
        options.validate().map_err(|error| interface(error.to_string()))?;
        let Classifier { vocab, dim, positions, dtype, logits_bytes } = classifier;
        if vocab == 0 || dim == 0 || !is_float(dtype) {
            return Err(unsupported(format!("a classifier of V = {vocab}, D = {dim} in {dtype}")));
        }
        let elements = |rows: usize| {
            rows.checked_mul(positions).ok_or_else(|| unsupported(format!("{rows} × {positions} values")))
        };
        let all = elements(vocab)?;
        let keeps = all <= logits_bytes / size_of::<f32>();
        let tile = elements(TILE.min(vocab))?;
        let z = zeros(if keeps { all } else { tile })?;
        let dz = zeros(if keeps { tile } else { 0 })?;
        let (x, dx) = (Positions::new(dim, elements(dim)?)?, zeros(elements(dim)?)?);
        let mut counted = Vec::new();
        counted.try_reserve_exact(positions).map_err(|_| unsupported(format!("{positions} positions")))?;
        let columns = Columns::new(positions)?;
        let filter = Filter::new(options.filter, TILE.min(vocab), dim)?;
        Ok(FusedHead {
            threads,
            classifier,
            options,
            keeps,
            precision: Precision::SingleButSmall,
            counted,
            columns,
            x,
            dx,
            z,
            dz,
            filter,
            scratch: Vec::new(),
        })
    }

    /// Finds the positions that count.
    fn count(&mut self, targets: &[i32]) -> Result<(), RuntimeError> {
        let Classifier { vocab, positions, .. } = self.classifier;
        if targets.len() != positions {
            return Err(interface(format!("{} targets were given for {positions} positions", targets.len())));
        }
        self.counted.clear();
        for (position, &target) in targets.iter().enumerate() {
            if target == self.options.ignore_index {
                continue;
            }
            match usize::try_from(target).ok().filter(|&target| target < vocab) {
                Some(target) => self.counted.push((position, target)),
                None => {
                    return Err(interface(format!(
                        "target {target} at position {position} is not below the vocabulary of {vocab}, nor {}",
                        self.options.ignore_index
                    )));
                }
            }
        }
        Ok(())
    }

    /// E·x for some rows of E.
    fn to_logits(&self, rows: usize) -> Gemm {
        let size = [rows, self.counted.len(), self.classifier.dim];
        Gemm::for_packed(size, self.precision, &self.threads)
    }

    /// Eᵀ·dz, a part of dx, for some rows of E.
    fn to_dx(&self, rows: usize) -> Gemm {
        let size = [self.classifier.dim, self.counted.len(), rows];
        Gemm::new(size, self.precision, &self.threads)
    }

    /// dz·xᵀ, for some rows of E.
    fn to_dembed(&self, rows: usize) -> Gemm {
        let size = [rows, self.classifier.dim, self.counted.len()];
        Gemm::for_packed(size, self.precision, &self.threads)
    }

    /// The tiles: first row and number of rows of each.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let vocab = self.classifier.vocab;
        (0..vocab).step_by(TILE).map(move |first| (first, TILE.min(vocab - first)))
    }

    /// Where a tile's logits stand among [`FusedHead::z`].
    fn place(&self, first: usize, rows: usize) -> std::ops::Range<usize> {
        let n = self.counted.len();
        let start = if self.keeps { first * n } else { 0 };
        start..start + rows * n
    }

    /// Rows of E as a matrix.
    fn rows<'a>(&self, embed: Floats<'a>, first: usize) -> Matrix<'a> {
        let dim = self.classifier.dim;
        Matrix { values: embed.from(first * dim), row_stride: dim, column_stride: 1 }
    }

    /// Computes a tile's logits.
    fn logits(
        &mut self,
        embed: Floats<'_>,
        bias: Option<Floats<'_>>,
        (first, rows): (usize, usize),
    ) -> Result<(), RuntimeError> {
        let gemm = self.to_logits(rows);
        grow(&mut self.scratch, gemm.scratch())?;
        let (a, place) = (self.rows(embed, first), self.place(first, rows));
        let x = self.x.operand(HeadProduct::Logits, &gemm);
        let bias = bias.map_or(Bias::None, |bias| Bias::Rows(bias.from(first)));
        let z = &mut self.z[place];
        let scratch = bytemuck::cast_slice_mut(&mut self.scratch);
        gemm.run(a, x, bias.into(), Output::F32(z), scratch, &self.threads);
        if let Some(cap) = self.options.softcap {
            columns::cap(z, cap, &self.threads);
        }
        Ok(())
    }

    /// What every position's logits sum up to.
    fn first_pass(&mut self, embed: Floats<'_>, bias: Option<Floats<'_>>) -> Result<(), RuntimeError> {
        self.columns.begin(self.counted.len());
        for tile in self.tiles() {
            self.logits(embed, bias, tile)?;
            let z = &self.z[self.place(tile.0, tile.1)];
            self.columns.add(z, tile.0, &self.counted, &self.threads);
        }
        Ok(())
    }

    /// w, by which each counted position's loss enters the whole.
    fn weight(&self) -> f64 {
        match self.options.reduction {
            Reduction::Mean => 1.0 / self.counted.len().max(1) as f64,
            Reduction::Sum => 1.0,
        }
    }

    fn totals(&self, losses: Option<&mut [f32]>) -> LossTotals {
        let Classifier { vocab, .. } = self.classifier;
        let (smoothing, z_loss) = (f64::from(self.options.label_smoothing), f64::from(self.options.z_loss));
        let (mut nats, mut squares) = (0.0, 0.0);
        let mut losses = losses;
        if let Some(losses) = losses.as_deref_mut() {
            losses.fill(0.0);
        }
        for (s, &(position, _)) in self.counted.iter().enumerate() {
            let column = self.columns.column(s);
            let lse = column.largest + column.log_sum;
            let square = z_loss * lse * lse;
            let even = if smoothing == 0.0 { 0.0 } else { smoothing / vocab as f64 * column.total };
            // Large logits go first: they would swallow the logarithm.
            let loss = (column.largest - (1.0 - smoothing) * column.target - even) + column.log_sum + square;
            if let Some(losses) = losses.as_deref_mut() {
                losses[position] = loss as f32;
            }
            nats += loss;
            squares += square;
        }
        let weight = self.weight();
        LossTotals { loss: weight * nats, z_loss: weight * squares, counted: self.counted.len() }
    }

    /// dE, db and, not yet rounded, dx.
    fn second_pass(
        &mut self,
        embed: Floats<'_>,
        bias: Option<Floats<'_>>,
        scale: f32,
        mut dembed: FloatsMut<'_>,
        mut dbias: Option<FloatsMut<'_>>,
    ) -> Result<(), RuntimeError> {
        let (n, Classifier { vocab, dim, .. }) = (self.counted.len(), self.classifier);
        let slope = Slope {
            weight: (self.weight() * f64::from(scale)) as f32,
            smoothing: self.options.label_smoothing,
            z_loss: self.options.z_loss,
            softcap: self.options.softcap,
            vocab,
        };
        self.columns.finish(n, slope);
        self.dx[..n * dim].fill(0.0);
        for (first, rows) in self.tiles() {
            if !self.keeps {
                self.logits(embed, bias, (first, rows))?;
            }
            let place = self.place(first, rows);
            let (to_dx, to_dembed) = (self.to_dx(rows), self.to_dembed(rows));
            let embed_rows = self.rows(embed, first);
            let (z, dz) = if self.keeps {
                (Some(&self.z[place]), &mut self.dz[..rows * n])
            } else {
                (None, &mut self.z[place])
            };
            let magnitudes = self.filter.magnitudes();
            self.columns.gradient((z, &mut *dz), first, &self.counted, slope, &self.threads, magnitudes);
            if let Some(dbias) = &mut dbias {
                columns::sum_rows(dz, n, dbias.part(first..first + rows));
            }
            let kept = self.filter.keep(dz, n, slope.weight);
            if kept < rows {
                self.add_filtered(embed, (first, kept), dembed.part(first * dim..(first + rows) * dim))?;
                continue;
            }
            let dz = &*dz;
            grow(&mut self.scratch, to_dx.scratch().max(to_dembed.scratch()))?;
            let scratch = bytemuck::cast_slice_mut(&mut self.scratch);
            let dz = Matrix { values: Floats::F32(dz), row_stride: n, column_stride: 1 };
            let dx = Output::Sum(&mut self.dx[..n * dim]);
            to_dx.run(embed_rows.transposed(), dz.into(), Bias::None.into(), dx, scratch, &self.threads);
            let x = self.x.operand(HeadProduct::Dembed, &to_dembed);
            let to = match dembed.part(first * dim..(first + rows) * dim) {
                FloatsMut::F16(to) => Output::F16(to),
                FloatsMut::F32(to) => Output::F32(to),
            };
            to_dembed.run(dz, x, Bias::None.into(), to, scratch, &self.threads);
        }
        Ok(())
    }

    /// Adds to dx, and writes to the tile's rows of dE, what those of a tile's rows give that the filter has kept, and moved
    /// to the first of dz.
    fn add_filtered(
        &mut self,
        embed: Floats<'_>,
        (first, kept): (usize, usize),
        dembed: FloatsMut<'_>,
    ) -> Result<(), RuntimeError> {
        let (n, dim) = (self.counted.len(), self.classifier.dim);
        let (to_dx, to_dembed) = (self.to_dx(kept), self.to_dembed(kept));
        grow(&mut self.scratch, to_dx.scratch().max(to_dembed.scratch()))?;
        let scratch = bytemuck::cast_slice_mut(&mut self.scratch);
        let place = if self.keeps { &self.dz[..kept * n] } else { &self.z[..kept * n] };
        let dz = Matrix { values: Floats::F32(place), row_stride: n, column_stride: 1 };
        let rows = self.filter.gather(embed.from(first * dim));
        let rows = Matrix { values: Floats::F32(rows), row_stride: dim, column_stride: 1 };
        let dx = Output::Sum(&mut self.dx[..n * dim]);
        to_dx.run(rows.transposed(), dz.into(), Bias::None.into(), dx, scratch, &self.threads);
        let x = self.x.operand(HeadProduct::Dembed, &to_dembed);
        let gradients = Output::F32(self.filter.rows());
        to_dembed.run(dz, x, Bias::None.into(), gradients, scratch, &self.threads);
        match dembed {
            FloatsMut::F16(to) => self.filter.scatter(to),
            FloatsMut::F32(to) => self.filter.scatter(to),
        }
        Ok(())
    }

    /// Rounds dx to where the caller wants it; ignored positions have none.
    fn scatter<T: Float>(&self, to: &mut [T]) {
        let n = self.counted.len();
        self.threads.each_chunk(to, self.classifier.positions, 4, |d, row| {
            row.fill(T::narrow(0.0));
            for (&(position, _), &dx) in self.counted.iter().zip(&self.dx[d * n..(d + 1) * n]) {
                row[position] = T::narrow(dx);
            }
        });
    }

    /// Loss, and gradients where wanted, on slices; see [`run`]. Element types may differ from the classifier's.
    ///
    /// [`run`]: anemone_mil::linear_cross_entropy::LinearCrossEntropy::run
    ///
    /// # Errors
    ///
    /// Slices of another size, or a target that is neither below V nor ignored.
    pub fn run_slices(
        &mut self,
        inputs: SliceInputs<'_>,
        losses: Option<&mut [f32]>,
        gradients: Option<SliceGradients<'_>>,
    ) -> Result<LossTotals, RuntimeError> {
        let SliceInputs { x, embed, bias, targets } = inputs;
        slices::check(self.classifier, &inputs, losses.as_deref(), gradients.as_ref())?;
        self.count(targets)?;
        let threads = self.threads.clone();
        threads.install(|| {
            if self.counted.is_empty() {
                if let Some(losses) = losses {
                    losses.fill(0.0);
                }
                if let Some(gradients) = gradients {
                    gradients.clear();
                }
                return Ok(LossTotals::default());
            }
            // 16 bits of the gradients of logits are enough where weights have 11, unless no bit may be lost; in fp32,
            // numbers far below the others are as good as 0.
            let half = matches!((x, embed), (Floats::F16(_), Floats::F16(_)))
                && self.threads.products() != ProductPrecision::Exact;
            self.precision = if half { Precision::Rounded } else { Precision::SingleButSmall };
            let (logits, dembed) = (self.to_logits(TILE), self.to_dembed(TILE));
            self.x.gather(x, self.classifier.positions, &self.counted, &self.threads);
            self.x.pack(HeadProduct::Logits, &logits, &self.threads)?;
            if gradients.is_some() {
                self.x.pack(HeadProduct::Dembed, &dembed, &self.threads)?;
            }
            self.first_pass(embed, bias)?;
            let totals = self.totals(losses);
            if let Some(gradients) = gradients {
                let SliceGradients { scale, dx, dembed, dbias } = gradients;
                self.second_pass(embed, bias, scale, dembed, dbias)?;
                match dx {
                    FloatsMut::F16(dx) => self.scatter(dx),
                    FloatsMut::F32(dx) => self.scatter(dx),
                }
            }
            Ok(totals)
        })
    }
}
