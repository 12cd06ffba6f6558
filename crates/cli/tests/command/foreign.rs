//! Files and directories of another kind than is read: what they are is said, and what to do.

use std::fs;

use anemone_mil::tensor::Tensor;
use anemone_mil::weights::write_blob_file;

use super::support::{LINEAR, Place, anemone, array};

const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 12345
";

#[test]
fn pointers_of_git_lfs_are_known_wherever_files_are_read() {
    let place = Place::new();
    let pointer = place.file("pointer", LFS_POINTER);
    let words = ["Git LFS", "`git lfs pull`"];
    let weighted = LINEAR.replace(
        "tensor<fp32, [4]>([0x0p+0, 0x0p+0, 0x0p+0, 0x1p-1])",
        "tensor<fp32, [4]>(BLOBFILE(path = string(\"@model_path/pointer\"), offset = uint64(64)))",
    );
    let program = place.file("weighted.mil", weighted);
    anemone(["check", &program, "--weights", &place.text("")]).failed(1, &words);
    let x = array(&place, "x.npy", &[2, 3], &[1.0f32; 6]);
    let out = place.text("out");
    let run =
        |program: &str, x: &str| anemone(["run", program, "--output", &out, "--input", &format!("x={x}")]);
    run(&program, &x).failed(1, &words);
    run(&place.file("linear.mil", LINEAR), &pointer).failed(1, &words);
    for subcommand in [&["check"][..], &["fmt"], &["show"], &["train", "--data"], &["train", "--config"]] {
        anemone([subcommand, &[&pointer]].concat()).failed(1, &words);
    }
    assert!(!place.path("out").exists());
}

#[test]
fn models_in_directories_are_named_with_the_file_to_give() {
    let place = Place::new();
    fs::create_dir_all(place.path("a.mlmodelc")).unwrap();
    let (compiled, program) = (place.text("a.mlmodelc"), place.text("a.mlmodelc/model.mil"));
    anemone(["check", &compiled])
        .failed(1, &["a.mlmodelc: it is a compiled Core ML model", "without a .mil file"]);
    place.file("a.mlmodelc/model.mil", LINEAR);
    for subcommand in ["check", "fmt", "show"] {
        for file in [&compiled, &format!("{compiled}/"), &program] {
            anemone([subcommand, file]).ended(0);
        }
    }
    // Without its description it is no whole model.
    anemone(["convert", &compiled, &place.text("a.mlpackage")]).failed(1, &["cannot read", "coremldata.bin"]);
    fs::create_dir_all(place.path("pipeline.mlmodelc/model0")).unwrap();
    place.file("pipeline.mlmodelc/model0/model.mil", LINEAR);
    let words = ["a compiled Core ML model", "pipeline.mlmodelc/model0/model.mil"];
    anemone(["check", &place.text("pipeline.mlmodelc")]).failed(1, &words);

    fs::create_dir_all(place.path("b.mlpackage/Data")).unwrap();
    anemone(["show", &place.text("b.mlpackage")]).failed(1, &["cannot read", "b.mlpackage/Manifest.json"]);
    fs::create_dir_all(place.path("renamed/Data")).unwrap();
    place.file("renamed/Manifest.json", "{}");
    let words = ["renamed/Manifest.json: it is no manifest of a package"];
    anemone(["show", &place.text("renamed")]).failed(1, &words);

    fs::create_dir(place.path("empty")).unwrap();
    anemone(["check", &place.text("empty")]).failed(1, &["it is a directory; a .mil file is expected here"]);
    place.file("one.mil", LINEAR);
    place.file("two.mil", LINEAR);
    anemone(["check", &place.text("")]).failed(1, &["it is a directory; it holds 2 programs", "one.mil"]);
    anemone(["train", "--config", &compiled]).failed(1, &["it is a directory; a file is expected here"]);
}

#[test]
fn files_in_other_formats_are_named() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2, 3], &[1.0f32; 6]);
    anemone(["check", &x]).failed(1, &["cannot read", "x.npy", "an array of NumPy"]);
    let values = Tensor::vector(vec![1.0f32]);
    write_blob_file(place.path("w.bin"), |writer| writer.append(&values)).unwrap();
    let weights = place.text("w.bin");
    anemone(["show", &weights]).failed(1, &["a weight file, which programs refer to"]);
    let model = place.file("model", b"\x08\x07\x12\x03\x0a\x01x");
    anemone(["fmt", &model]).failed(1, &["a Core ML model", "must end in .mlmodel"]);
    let network = super::support::repository().join("tests/coreml/neural_network.mlmodel");
    anemone(["show", network.to_str().unwrap()])
        .failed(1, &["a neural network of the older kind (`neuralNetwork`)"]);
    let archive = place.file("x.npz", b"PK\x03\x04rest");
    anemone(["fmt", &archive]).failed(1, &["a zip archive"]);
    let wide: Vec<u8> = LINEAR.encode_utf16().flat_map(u16::to_le_bytes).collect();
    anemone(["check", &place.file("wide.mil", [b"\xff\xfe", &wide[..]].concat())]).failed(1, &["UTF-16"]);
    anemone(["train", "--config", &x]).failed(1, &["an array of NumPy"]);

    let program = place.file("linear.mil", LINEAR);
    for (file, words) in
        [(&archive, "a zip archive"), (&weights, "a weight file"), (&program, "not a .npy file")]
    {
        let input = format!("x={file}");
        let run = anemone(["run", &program, "--input", &input, "--output", &place.text("out")]);
        run.failed(1, &["cannot be taken as the input `x`", words]);
    }
}
