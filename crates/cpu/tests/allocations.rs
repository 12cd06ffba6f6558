//! After `prepare`, a run of kernels allocates no memory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use anemone_mil::runtime::allocate_outputs;
use anemone_mil::types::DType;
use common::{builder, cpu, ordinary, prepare, program};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)] // An allocator cannot be replaced without it.
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_run_of_kernels_allocates_nothing() {
    let (d, v, s) = (96, 320, 70);
    let mut function = builder();
    let x = ordinary(1, DType::Fp16, &[1, d, 1, s]);
    let x_id = function.input("x", x.ty());
    let squares = function.op("mul", "squares", [("x", x_id.into()), ("y", x_id.into())]).unwrap();
    let axes = &[1][..];
    let mean = function
        .op("reduce_mean", "mean", [("x", squares.into()), ("axes", axes.into()), ("keep_dims", true.into())])
        .unwrap();
    let root = function.op("rsqrt", "root", [("x", mean.into())]).unwrap();
    let normalized = function.op("mul", "normalized", [("x", x_id.into()), ("y", root.into())]).unwrap();
    let weight = function.constant("weight", ordinary(2, DType::Fp16, &[v, d, 1, 1]));
    let logits =
        function.op("conv", "logits", [("x", normalized.into()), ("weight", weight.into())]).unwrap();
    let p = function.op("softmax", "p", [("x", logits.into()), ("axis", 1.into())]).unwrap();
    let flat = function
        .op("reshape", "flat", [("x", p.into()), ("shape", (&[v as i32, s as i32][..]).into())])
        .unwrap();
    let turned =
        function.op("transpose", "turned", [("x", flat.into()), ("perm", (&[1, 0][..]).into())]).unwrap();
    let product = function.op("matmul", "product", [("x", turned.into()), ("y", flat.into())]).unwrap();
    let wide = function.op("cast", "wide", [("x", product.into()), ("dtype", "fp32".into())]).unwrap();
    let program = program(function.finish([wide, p, mean]));
    for threads in [1, 2] {
        let mut executable = prepare(&cpu(threads), &program, &[&x]);
        let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
        for _ in 0..3 {
            executable.run(&[&x], &mut outputs).unwrap();
        }
        // Also the harness allocates, when it says that a test takes long: only what happens every time counts.
        let runs = 32;
        let mut counted = || {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..runs {
                executable.run(&[&x], &mut outputs).unwrap();
            }
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        let allocations = counted().min(counted());
        // The queue through which rayon receives a run grows by a block for every 31 of them.
        let queue = if threads == 1 { 0 } else { runs / 31 + 1 };
        assert!(allocations <= queue, "{allocations} allocations in {runs} runs on {threads} threads");
    }
}
