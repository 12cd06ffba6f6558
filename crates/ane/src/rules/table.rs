//! The rules, one row each.

use super::{Check, Confidence, Effect, Interfaces, Rule};
use super::{limits, numbers, parameters, structure, types, unsupported};
use crate::chips::Chip::{M1, M2, M3, M4, M5, M6};
use crate::chips::Chips;

/// Declares the rules: number and sentence; chips and ways in; what happens, by whom; the remedy; how it is checked.
macro_rules! rules {
    ($(
        $number:literal: $what:literal
        on [$chips:expr] by $interfaces:ident => $effect:ident, $confidence:ident $sources:literal
        instead $remedy:literal
        check $check:ident($argument:expr);
    )*) => {
        /// Every rule, in the order of their numbers.
        pub static ALL: &[Rule] = &[$(Rule {
            number: $number,
            what: $what,
            chips: $chips,
            interfaces: Interfaces::$interfaces,
            confidence: Confidence::$confidence,
            effect: Effect::$effect,
            sources: $sources,
            remedy: $remedy,
            check: Check::$check($argument),
        }),*];
    };
}

/// The device layer keeps these, whatever the program.
const DEVICE: &str = "the device layer keeps it";
/// These depend on the values that a program computes.
const RANGES: &str = "`check --chip` tells by bounds on values, and the simulator";
/// These are about how exact an op is, which no program is refused for.
const LEGALIZED: &str = "legalisation writes it so";
/// These are about how fast a program is.
const PLAN: &str = "the plan counts it";

rules! {
    1: "no dimension over 16384 for spatial axes and the axes of matrix products"
        on [Chips::until(M3)] by ALL => Refused, Measured "F"
        instead "cut that axis in tiles of at most 16384, or make it the channels of a convolution"
        check Functions(limits::spatial_and_matrix_axes);
    2: "no dimension over 65536, channels included"
        on [Chips::ALL] by ALL => Refused, Measured "F, S"
        instead "cut that axis in tiles of at most 65536"
        check Functions(limits::any_axis);
    3: "the inner dimension of a matmul is at most 32768"
        on [Chips::of(&[M4])] by ALL => Refused, Measured "S"
        instead "cut the inner dimension in tiles and add the partial sums"
        check Ops(limits::inner_dimension);
    4: "a convolution has fewer than 32000 input channels"
        on [Chips::ALL] by ALL => Refused, Contested "M, O; against R2"
        instead "write the product as a matmul, which takes the channels as its inner dimension"
        check Ops(limits::input_channels);
    5: "a convolution of 768 channels to 32000 compiles, one of 2048 to 32000 does not"
        on [Chips::of(&[M4])] by ALL => Refused, Contested "M; E"
        instead "cut the output channels in tiles"
        check Ops(limits::output_channels);
    6: "the rank is at most 5"
        on [Chips::ALL] by ALL => Refused, Measured "F"
        instead "reshape: fold axes that are next to each other into one"
        check Functions(limits::rank);
    7: "kernels of convolutions are 1×K up to 13 (M1) or 15, K×1 up to 31, square up to 16; max_pool is up to 8 wide"
        on [Chips::ALL] by ALL => Refused, Measured "F, S"
        instead "cut the kernel in parts, convolve with each, and add what they give"
        check Ops(limits::kernel);
    8: "about 119 compilations per process, then they fail silently"
        on [Chips::ALL] by IN_MEMORY => Refused, Reported "M, O, I"
        instead "take weights as inputs, so that nothing is compiled again, or restart the process"
        check Elsewhere(DEVICE);
    9: "about 55 models are loaded at once; some sub-programs hold about 8 MB of weights"
        on [Chips::of(&[M3])] by IN_MEMORY => Refused, Reported "I"
        instead "unload models that are not in use"
        check Elsewhere(DEVICE);
    10: "an I/O surface has a minimum size: 49152 B (O), 16384 B (I) or 2048 B (T)"
        on [Chips::ALL] by IN_MEMORY => Refused, Contested "O; I; T"
        instead "allocate 49152 bytes for smaller tensors"
        check Elsewhere(DEVICE);
    11: "the last axis of an input or output is a multiple of 16 (R) or 32 (B)"
        on [Chips::ALL] by IN_MEMORY => SilentlyWrong, Contested "R; B"
        instead "pad the last axis to a multiple of 32, or bind buffers by name through e5rt"
        check Functions(structure::last_axis);
    12: "all inputs have the same surface size, and all outputs, else status 0x1d"
        on [Chips::ALL] by IN_MEMORY => Refused, Measured "O; reported by M"
        instead "pad surfaces to the largest, with the data from byte 0 on"
        check Elsewhere(DEVICE);
    13: "surfaces bind in the alphabetical order of the names"
        on [Chips::ALL] by IN_MEMORY => SilentlyWrong, Contested "O; T by size; B by name"
        instead "name inputs and outputs so that either order is the same"
        check Elsewhere(DEVICE);
    14: "outputs are of floating point, and nothing computes in int32"
        on [Chips::ALL] by ALL => OnCpu, Measured "S, P"
        instead "compute in fp16, and convert on the host"
        check Functions(types::integers);
    15: "fp16 inside; fp32 only at the border through `cast`, which M1 and M2 lack"
        on [Chips::ALL] by ALL => Refused, Measured "M, F"
        instead "compute in fp16"
        check Ops(types::wide_floats);
    16: "`concat` is accepted at most with `axis` and `interleave` as named constants"
        on [Chips::ALL] by DIRECT => Refused, Contested "O: never; M, I, F, P: so"
        instead "bind both by `const`, or return the parts as several outputs"
        check Ops(parameters::concat);
    17: "`scaled_dot_product_attention` takes no mask"
        on [Chips::ALL] by DIRECT => SilentlyWrong, Measured "M, O"
        instead "write attention out: matmul, add the mask, softmax, matmul"
        check Ops(parameters::attention_mask);
    18: "`rsqrt` and `sqrt` fail after a reduction"
        on [Chips::of(&[M4])] by DIRECT => Refused, Contested "R; accepted through Core ML, S"
        instead "write `pow(x, -0.5)` or `pow(x, 0.5)`"
        check Ops(unsupported::root_of_reduction);
    19: "`rsqrt`, `log` and `inverse` are given their `epsilon`"
        on [Chips::of(&[M3])] by DIRECT => Refused, Reported "I"
        instead "give `epsilon` by a `const`"
        check Ops(parameters::epsilon);
    20: "`conv` takes no `bias`"
        on [Chips::of(&[M4])] by DIRECT => Refused, Reported "O"
        instead "add the bias by `add`, as [1, C, 1, 1]"
        check Ops(parameters::bias);
    21: "every parameter of conv and matmul is present, as a named constant"
        on [Chips::ALL] by DIRECT => Refused, Measured "O, P"
        instead "bind each by a `const`"
        check Ops(parameters::named_constants);
    22: "`gelu` is not accepted by the direct compiler"
        on [Chips::of(&[M4])] by DIRECT => Refused, Reported "O; accepted through Core ML, S"
        instead "write it out: 0.5·x·(1 + erf(x / √2)), or its approximation by `tanh`"
        check Ops(unsupported::gelu);
    23: "`reduce_mean` fails"
        on [Chips::of(&[M3, M5])] by DIRECT => Refused, Contested "E, B; against I, P"
        instead "write `reduce_sum` times 1/n"
        check Ops(unsupported::reduce_mean);
    24: "every op and every result is used"
        on [Chips::of(&[M4])] by DIRECT => Refused, Reported "O, B"
        instead "leave out what nothing needs: `anemone opt --pass dead-code`"
        check Functions(structure::unused);
    25: "the weight of a convolution is a constant"
        on [Chips::ALL] by DIRECT => SilentlyWrong, Contested "G, T; accepted through Core ML, S"
        instead "write the product as a matmul of two inputs, with an inner dimension that is a multiple of 32"
        check Ops(numbers::computed_weight);
    26: "a program does more than reshape, slice or tile"
        on [Chips::of(&[M3])] by DIRECT => Refused, Reported "I"
        instead "do this on the host, or together with the program that computes"
        check Functions(structure::only_movement);
    27: "sin and cos from M3 on; topk, sort and slices with a computed start from M2 on; gather with constant indices only"
        on [Chips::ALL] by ALL => Refused, Measured "F, S"
        instead "compute it on the host"
        check Ops(unsupported::by_generation);
    28: "some ops are not on the engine at all, such as cumsum, one_hot, scatter, reduce_prod, mod, acos, lstm"
        on [Chips::of(&[M4])] by ALL => OnCpu, Measured "S"
        instead "write it with other ops, or compute it on the host"
        check Ops(unsupported::not_on_engine);
    29: "a slice begins at 0 of the last axis: on M1 values over 4094 become inf, on M2 elements are wrong"
        on [Chips::until(M2)] by ALL => SilentlyWrong, Measured "F"
        instead "transpose, so that another axis is sliced"
        check Ops(numbers::slice_of_last_axis);
    30: "`program(1.0)` with ios16 or ios17 syntax; 1.3 is refused"
        on [Chips::until(M2)] by DIRECT => Refused, Contested "M; compiled on M1 and M2 hosts by another route"
        instead "rewrite it: `anemone opt --pass dialect=1.0`"
        check Functions(structure::dialect);
    31: "`buildInfo` stands on one line; the text goes in as UTF-8; the dictionary of weights is empty, never nil"
        on [Chips::ALL] by DIRECT => Refused, Measured "O, B"
        instead "write programs by `anemone fmt`"
        check Elsewhere("the printer and the device layer keep it");
    32: "weight files that are overwritten and loaded again change the weights: on M4 Max yes (O), on M5 no (M)"
        on [Chips::of(&[M4, M5])] by DIRECT => SilentlyWrong, Contested "O; M"
        instead "take weights as inputs"
        check Elsewhere(DEVICE);
    33: "at most about 3200 ops load; past 386 layers the compiler overflows its stack"
        on [Chips::of(&[M4, M6])] by ALL => Refused, Measured "P, S"
        instead "cut the program in several"
        check Functions(limits::op_count);
    34: "an operand over 2 MiB does not stay on the chip; past about 32 MB of working set throughput falls off"
        on [Chips::of(&[M4, M6])] by ALL => Slow, Contested "M; S"
        instead "cut the work in tiles"
        check Elsewhere(PLAN);
    35: "`mul` of a floor, ceil or round by a scalar constant loses the factor"
        on [Chips::of(&[M5])] by ALL => SilentlyWrong, Measured "F"
        instead "multiply by a constant of full shape"
        check Ops(numbers::scaled_rounding);
    36: "`round` goes half away from zero and adds 1 from 1024 on"
        on [Chips::of(&[M5])] by ALL => SilentlyWrong, Measured "F"
        instead "write `floor(x + 0.5)`, for values that are no ties"
        check Ops(numbers::round);
    37: "`softplus` is 0 above about 10.4 to 11.1, where its exp overflows"
        on [Chips::of(&[M3, M5])] by ALL => SilentlyWrong, Measured "F; C #2687"
        instead "write `softplus(minimum(x, 10)) + relu(x - 10)`"
        check Ops(numbers::softplus);
    38: "`mul` of a reduction's result by 0 does not compile"
        on [Chips::of(&[M5])] by ALL => Refused, Measured "F"
        instead "write `(t - t) + c`"
        check Ops(unsupported::reduction_times_zero);
    39: "`square` beside an activation does not compile when the width mod 128 is over 64"
        on [Chips::of(&[M5])] by ALL => Refused, Measured "F"
        instead "write `mul(x, x)`"
        check Functions(unsupported::square_beside_activation);
    40: "`layer_norm` with a gamma and beta that vary fails for D from 1024 on (M1, M2) or about 10240 (M5)"
        on [Chips::of(&[M1, M2, M5])] by ALL => Refused, Reported "F"
        instead "normalise without gamma and beta; then `mul` and `add`"
        check Ops(limits::layer_norm);
    41: "`log` and `rsqrt` give ±inf for inputs below 2^-17·1.05"
        on [Chips::ALL] by ALL => SilentlyWrong, Reported "L, which does not say on which chip"
        instead "add an epsilon, or scale before"
        check Elsewhere(RANGES);
    42: "states are refused; through Core ML their last axis is a multiple of 32, and no value that is written is returned"
        on [Chips::of(&[M4])] by ALL => Refused, Reported "B; X; C #2631, #2713"
        instead "take the value as an input and return what it becomes"
        check Functions(types::states);
    43: "inputs and outputs are fp16, int8, uint8, int16 or uint16"
        on [Chips::of(&[M5])] by DIRECT => Refused, Measured "F"
        instead "convert on the host"
        check Functions(types::border);
    44: "a convolution whose weight is computed takes batch 1 only"
        on [Chips::of(&[M1, M5])] by ALL => Refused, Measured "F"
        instead "write it as a matmul, or once for each of the batch"
        check Ops(limits::batch_of_computed_weight);
    45: "transpose and matmul of rank 5 do not compile"
        on [Chips::of(&[M5])] by ALL => Refused, Measured "F"
        instead "reshape to rank 4: fold axes that stay next to each other"
        check Ops(limits::rank_five);
    46: "int8 weights of a matmul clamp activations over 4094"
        on [Chips::of(&[M1, M2, M5])] by ALL => SilentlyWrong, Measured "F"
        instead "keep the weights in fp16, or scale the activations"
        check Ops(numbers::int8_weights);
    47: "no output of the program is its input"
        on [Chips::of(&[M5])] by ALL => Refused, Reported "F"
        instead "return something that is computed, such as `mul(x, 1)`"
        check Functions(structure::passed_through);
    48: "about 2 GB of weights in a program; about 110 to 120 programs per process"
        on [Chips::of(&[M5])] by ALL => Refused, Measured "F"
        instead "take weights as inputs, or cut the program in several"
        check Functions(limits::weights);
    49: "`topk` with k = 3 or 4 does not compile"
        on [Chips::of(&[M5])] by ALL => Refused, Measured "F"
        instead "take k = 5 and leave out the rest"
        check Ops(unsupported::topk);
    50: "the loader of text wants every parameter of coremltools' op, and no value named like a word of the language"
        on [Chips::ALL] by DIRECT => Refused, Reported "C #1634; rustnn #102"
        instead "write the defaults"
        check Ops(parameters::all_present);
    51: "an op whose smallest program was refused on the engine alone, in this form (M5 Pro, macOS 26.5)"
        on [Chips::ALL] by DIRECT => Refused, Reported "F, whose measurement is of one form of each op"
        instead "write it with other ops, or compute it on the host"
        check Ops(unsupported::refused_in_sweep);
    52: "the products of a convolution or matrix product add up to less than 32752 at every step"
        on [Chips::ALL] by ALL => SilentlyWrong, Measured "S on M4, M6; F on M2, M5"
        instead "scale an operand by a power of two before, and the result after"
        check Elsewhere(RANGES);
    53: "the exponents of two factors add up to more than -17, or their product is dropped"
        on [Chips::ALL] by ALL => SilentlyWrong, Measured "S on M4, M6"
        instead "scale the smaller factor by a power of two before, and the result after"
        check Elsewhere(RANGES);
    54: "`reduce_sum` adds up in fp16, which has no odd numbers above 2048"
        on [Chips::ALL] by ALL => SilentlyWrong, Reported "F"
        instead "write the sum as a matmul with ones, whose accumulators are wider"
        check Elsewhere(RANGES);
    55: "results are at most 65504, the largest number of fp16"
        on [Chips::ALL] by ALL => SilentlyWrong, Measured "S"
        instead "scale the operands, or clip them"
        check Elsewhere(RANGES);
    56: "`silu` is a table of its own, off by up to 1.5e-2; `sigmoid`'s by 3.4e-3"
        on [Chips::ALL] by ALL => SilentlyWrong, Measured "S on M4, M6"
        instead "write x times `sigmoid` of x"
        check Elsewhere(LEGALIZED);
}
