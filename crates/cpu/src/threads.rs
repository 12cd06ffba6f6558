//! The threads of a runtime and the ways kernels share work among them.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use pulp::Arch;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::ProductPrecision;
use crate::path::Instructions;
use crate::simd::matrix_unit::MatrixUnit;

/// Values that one thread should have at least; less work than that is not worth sharing.
const LEAST_SHARE: usize = 16 * 1024;

/// A pool of threads, and the instructions that kernels run with.
pub(crate) struct Threads {
    /// `None` for a single thread, which is the caller's.
    pool: Option<ThreadPool>,
    count: usize,
    instructions: Instructions,
    products: ProductPrecision,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.count)
    }
}

impl Threads {
    /// A pool of `count` threads, whose kernels use these instructions.
    pub(crate) fn new(
        count: usize,
        instructions: Instructions,
        products: ProductPrecision,
    ) -> Result<Threads, ThreadPoolBuildError> {
        let name = |index| format!("anemone-cpu-{index}");
        let build = || ThreadPoolBuilder::new().num_threads(count).thread_name(name).build();
        let pool = if count > 1 { Some(build()?) } else { None };
        Ok(Threads { pool, count, instructions, products })
    }

    /// The number of threads.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The vector instructions that kernels run with.
    pub(crate) fn arch(&self) -> Arch {
        self.instructions.arch
    }

    /// The matrix unit that products run on, if there is one.
    pub(crate) fn unit(&self) -> Option<MatrixUnit> {
        self.instructions.unit
    }

    /// How exact products must be.
    pub(crate) fn products(&self) -> ProductPrecision {
        self.products
    }

    /// One thread, the caller's, with the same instructions.
    pub(crate) fn alone(&self) -> Threads {
        Threads { pool: None, count: 1, instructions: self.instructions, products: self.products }
    }

    /// Runs `work` inside the pool, where [`Threads::each_chunk`] and [`Threads::drain`] share work out.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Calls `work` with each chunk of `chunk` values (the last may be shorter) and its index. `weight` is
    /// the work per value, in simple arithmetic steps.
    pub(crate) fn each_chunk<T: Send>(
        &self,
        values: &mut [T],
        chunk: usize,
        weight: usize,
        work: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        let chunk = chunk.max(1);
        if self.pool.is_none() || values.len().saturating_mul(weight) < 2 * LEAST_SHARE {
            values.chunks_mut(chunk).enumerate().for_each(|(index, chunk)| work(index, chunk));
        } else {
            let least = (LEAST_SHARE / (chunk.saturating_mul(weight)).max(1)).max(1);
            let chunks = values.par_chunks_mut(chunk).with_min_len(least).enumerate();
            chunks.for_each(|(index, chunk)| work(index, chunk));
        }
    }

    /// Calls `work` with each of `items`, with one of `scratch`'s [`Threads::count`] equal parts as the
    /// working memory of the thread that calls it.
    pub(crate) fn drain<I: Iterator + Send>(
        &self,
        items: I,
        scratch: &mut [f32],
        work: impl Fn(I::Item, &mut [f32]) + Sync + Send,
    ) {
        if self.pool.is_none() {
            items.for_each(|item| work(item, &mut *scratch));
            return;
        }
        let part = scratch.len() / self.count;
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        scratch.par_chunks_exact_mut(part.max(1)).take(self.count).for_each(|scratch| {
            while let Some(item) = next() {
                work(item, scratch);
            }
        });
    }
}
