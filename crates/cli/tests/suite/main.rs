//! What holds on every runtime. A new backend is a function in `subjects.rs` and a line at the end of this file.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/bounds.rs"]
mod bounds;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod gradients;
mod heads;
mod llamas;
mod models;
#[path = "../../../cpu/tests/common/not_run.rs"]
mod not_run;
mod ops;
#[path = "../../../cpu/tests/common/paths.rs"]
mod paths;
mod ranges;
mod rmsnorm;
mod subjects;

/// Hands each of a backend's subjects to every part of the suite. A part that asks for what a subject does not promise
/// leaves it out.
macro_rules! suite {
    ($($backend:ident)*) => {
        $(
            mod $backend {
                suite!(@ $backend:
                    ops::every_case_holds
                    gradients::gradients_are_those_of_pytorch
                    rmsnorm::every_finite_value_in_all_places
                    rmsnorm::values_of_every_scale_and_mixtures_of_scales
                    rmsnorm::one_value_alone_among_zeros_and_among_tiny_ones
                    rmsnorm::the_gain_is_a_constant_that_can_be_replaced
                    heads::both_kinds_of_head_agree
                    heads::a_fused_head_is_offered_or_refused
                    heads::heads_agree_with_torch_whatever_the_options
                    llamas::logits_loss_and_gradients_are_those_of_torch
                    llamas::a_text_is_continued_with_the_logits_of_the_whole
                    llamas::ten_steps_have_the_losses_of_torch
                    models::models_have_the_results_of_pytorch
                );
            }
        )*
    };
    (@ $backend:ident: $($part:ident::$test:ident)*) => {
        $(
            #[test]
            fn $test() {
                crate::subjects::$backend().iter().for_each(crate::$part::$test);
            }
        )*
    };
}

suite! { eval exact_eval cpu }
