//! After `prepare`, a run of kernels allocates no memory, and replacing a constant none for its values.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anemone_mil::builder::AnyCall;
use anemone_mil::runtime::allocate_outputs;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::{builder, cpu, ordinary, prepare, program};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Held by a test while it counts: what the others allocate is not its own.
static TURN: Mutex<()> = Mutex::new(());

#[allow(unsafe_code)] // An allocator cannot be replaced without it.
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
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
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (d, v, s) = (96, 320, 70);
    let mut function = builder();
    let x = ordinary(1, DType::Fp16, &[1, d, 1, s]);
    let x_id = function.input("x", x.ty());
    let squares =
        function.bind("squares", AnyCall::named("mul", [("x", x_id.into()), ("y", x_id.into())])).unwrap();
    let mean = function
        .bind(
            "mean",
            AnyCall::named(
                "reduce_mean",
                [("x", squares.into()), ("axes", [1].into()), ("keep_dims", true.into())],
            ),
        )
        .unwrap();
    let root = function.bind("root", AnyCall::named("rsqrt", [("x", mean.into())])).unwrap();
    let normalized =
        function.bind("normalized", AnyCall::named("mul", [("x", x_id.into()), ("y", root.into())])).unwrap();
    let weight = function.constant("weight", ordinary(2, DType::Fp16, &[v, d, 1, 1]));
    let logits = function
        .bind("logits", AnyCall::named("conv", [("x", normalized.into()), ("weight", weight.into())]))
        .unwrap();
    let p =
        function.bind("p", AnyCall::named("softmax", [("x", logits.into()), ("axis", 1.into())])).unwrap();
    let flat = function
        .bind("flat", AnyCall::named("reshape", [("x", p.into()), ("shape", [v as i32, s as i32].into())]))
        .unwrap();
    let turned = function
        .bind("turned", AnyCall::named("transpose", [("x", flat.into()), ("perm", [1, 0].into())]))
        .unwrap();
    let product = function
        .bind("product", AnyCall::named("matmul", [("x", turned.into()), ("y", flat.into())]))
        .unwrap();
    let wide = function
        .bind("wide", AnyCall::named("cast", [("x", product.into()), ("dtype", "fp32".into())]))
        .unwrap();
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

/// Bytes allocated by a step that replaces the weight of a product over `v` words and runs it.
fn bytes_of_a_step(v: usize) -> usize {
    let (d, s) = (64, 8);
    let mut function = builder();
    let x = ordinary(1, DType::Fp16, &[1, d, 1, s]);
    let x_id = function.input("x", x.ty());
    let weight = function.constant("weight", ordinary(2, DType::Fp16, &[v, d, 1, 1]));
    let logits = function
        .bind("logits", AnyCall::named("conv", [("x", x_id.into()), ("weight", weight.into())]))
        .unwrap();
    let program = program(function.finish([logits]));
    let mut executable = prepare(&cpu(1), &program, &[&x]);
    let constant = executable.constant("weight").unwrap();
    let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
    let [even, odd] = [3, 4].map(|seed| Arc::new(ordinary(seed, DType::Fp16, &[v, d, 1, 1])));
    let mut step = |weight: &Arc<Tensor>| {
        let before = BYTES.load(Ordering::Relaxed);
        executable.set_constant(constant, weight.clone()).unwrap();
        executable.run(&[&x], &mut outputs).unwrap();
        BYTES.load(Ordering::Relaxed) - before
    };
    // The harness may allocate meanwhile, when it says that a test takes long.
    (0..8).map(|_| step(&even).min(step(&odd))).min().unwrap()
}

#[test]
fn replacing_a_constant_allocates_nothing_for_its_values() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (small, large) = (bytes_of_a_step(8), bytes_of_a_step(4096));
    assert_eq!(small, large);
    assert!(large < 4096, "{large} bytes");
}
