//! The text of the head's programs, to the letter, at sizes of which no two are alike.

#![allow(clippy::unwrap_used)]

mod common;

use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::programs::{ProgramError, Target};
use anemone_mil::program::Program;
use anemone_mil::text;
use anemone_mil::verify::verify;
use common::{data_dir, expect_file};

#[test]
fn the_heads_programs() {
    let targets = [
        ("fp16", Target::new(DeviceDtype::Fp16)),
        ("fp32", Target::new(DeviceDtype::Fp32)),
        ("fp16_first_dialect", Target::first_dialect(DeviceDtype::Fp16)),
    ];
    let mut failures = Vec::new();
    for (target_name, target) in targets {
        let head = Head { vocab: 1009, dim: 101, positions: 53, eps: EPS, target };
        let programs: [(&str, Result<Program, ProgramError>); 8] = [
            ("final_rmsnorm", head.final_rmsnorm()),
            ("classifier_forward", head.classifier_forward()),
            ("classifier_forward_tile", head.classifier_forward_tile(1, &(300..600))),
            ("softmax", head.softmax()),
            ("classifier_backward", head.classifier_backward()),
            ("classifier_backward_tile", head.classifier_backward_tile(1, &(300..600))),
            ("rmsnorm_backward", head.rmsnorm_backward()),
            ("classifier_weight_gradient", head.classifier_weight_gradient()),
        ];
        for (name, program) in programs {
            let program = program.unwrap();
            let text = text::write(&program);
            let verified = verify(program).unwrap();
            assert!(verified.warnings().is_empty(), "{}", verified.warnings());
            let path = data_dir("programs").join(target_name).join(format!("{name}.mil"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            failures.extend(expect_file(&path, &text).err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
