//! No output of a command is a file that it reads, by whatever name.

use std::fs;

use super::support::{LINEAR, Place, Run, TWO_OUTPUTS, anemone, array};

/// The other names of a file that a test can give it here: as it is, another spelling, and links.
fn names(place: &Place, name: &str) -> Vec<String> {
    let mut names = vec![place.text(name), place.text(&format!("./{name}"))];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(place.path(name), place.path("soft")).unwrap();
        fs::hard_link(place.path(name), place.path("hard")).unwrap();
        names.extend([place.text("soft"), place.text("hard")]);
    }
    names
}

/// Asserts that a run was refused for this reason, and that the file is as it was.
#[track_caller]
fn spared(run: Run, file: &str, content: &[u8]) {
    let run = run.failed(1, &["cannot write", "which is read", "another place"]);
    assert_eq!(run.stdout, "");
    assert!(fs::read(file).unwrap() == content, "{file} was changed");
}

#[test]
fn a_drawing_does_not_replace_its_program() {
    let place = Place::new();
    let file = place.file("linear.mil", LINEAR);
    for dot in names(&place, "linear.mil") {
        spared(anemone(["show", &file, "--dot", &dot]), &file, LINEAR.as_bytes());
    }
    // As good a name as any: the file is no input.
    anemone(["show", &file, "--dot", &place.file("other.mil", LINEAR)]).ended(0);
}

#[test]
fn a_program_in_another_form_does_not_replace_the_one_that_is_read() {
    let place = Place::new();
    let file = place.file("linear.mil", LINEAR);
    for out in names(&place, "linear.mil") {
        // A form is chosen by the name: links have none.
        if out.ends_with(".mil") {
            spared(anemone(["convert", &file, &out]), &file, LINEAR.as_bytes());
        }
    }
}

#[test]
fn results_do_not_replace_inputs_programs_or_weights() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    let program = place.file("two.mil", TWO_OUTPUTS);
    let x = array(&place, "out/z.npy", &[2], &[1.0f32, 2.0]);
    let before = fs::read(&x).unwrap();
    let run = |program: &str, x: &str, out: &str| {
        anemone(["run", program, "--input", &format!("x={x}"), "--output", &place.text(out)])
    };
    for x in names(&place, "out/z.npy") {
        spared(run(&program, &x, "out"), &x, &before);
    }
    assert!(!place.path("out/y.npy").exists(), "nothing is written of a run that is refused");

    fs::create_dir(place.path("program")).unwrap();
    let program = place.file("program/y.npy", TWO_OUTPUTS);
    spared(run(&program, &x, "program"), &program, TWO_OUTPUTS.as_bytes());

    let tensor = anemone_mil::tensor::Tensor::vector(vec![1.0f32, 2.0]);
    anemone_mil::weights::write_blob_file(place.path("y.npy"), |writer| writer.append(&tensor)).unwrap();
    let before = fs::read(place.path("y.npy")).unwrap();
    let program = place.file(
        "weights.mil",
        r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2]> x) {
            tensor<fp32, [2]> w = const()[name = string("w"), val = tensor<fp32, [2]>(BLOBFILE(path = string("@model_path/y.npy"), offset = uint64(64)))];
            tensor<fp32, [2]> y = mul(x = x, y = w)[name = string("y")];
        } -> (y);
}
"#,
    );
    spared(run(&program, &x, ""), &place.text("y.npy"), &before);
    run(&program, &x, "elsewhere").ended(0);
}

#[test]
fn weights_do_not_replace_the_arrays_that_they_are_made_of() {
    let place = Place::new();
    fs::create_dir_all(place.path("head/weights")).unwrap();
    let embed = array(&place, "head/weights/embed_t.bin", &[5, 4], &[0.5f32; 20]);
    let gain = array(&place, "head/softmax.mil", &[4], &[0.5f32; 4]);
    for (flag, file) in [("--embed", embed), ("--gain", gain)] {
        let before = fs::read(&file).unwrap();
        let emit = ["emit", "head", "--vocab", "5", "--dim", "4", "--seq", "3", "--out"];
        spared(anemone([&emit[..], &[&place.text("head"), flag, &file]].concat()), &file, &before);
    }
    assert_eq!(fs::read_dir(place.path("head/weights")).unwrap().count(), 1);
}

#[test]
fn a_run_does_not_replace_its_data_or_configuration() {
    let place = Place::new();
    fs::create_dir(place.path("out")).unwrap();
    let text: String = (0..400).map(|i| format!("line {i}\n")).collect();
    let config = "[model]\ndim = 8\n[train]\nbatch = 2\nseq = 8\nsteps = 2\n";
    let (plain_text, plain_config) = (place.file("text", &text), place.file("config", config));
    let train = |config: &str, data: &str, more: &[&str]| {
        let out = place.text("out");
        anemone([&["train", "-q", "--config", config, "--data", data, "--out", &out], more].concat())
    };
    let curve = place.file("out/curve.svg", &text);
    // Whatever it is for, a file that a run would write is not to be there.
    let run = train(&plain_config, &curve, &[]);
    run.failed(1, &["holds a file, curve.svg, which the run would replace", "another directory"]);
    assert_eq!(fs::read_to_string(&curve).unwrap(), text);
    let curve = place.file("out/curve.svg", config);
    spared(train(&curve, &plain_text, &[]), &curve, config.as_bytes());
    fs::remove_file(curve).unwrap();
    for name in names(&place, "text") {
        spared(train(&plain_config, &plain_text, &["--log", &name]), &plain_text, text.as_bytes());
    }
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);

    train(&plain_config, &plain_text, &[]).ended(0);
    let resume = ["train", "-q", "--resume", &place.text("out"), "--log", &plain_text];
    spared(anemone(resume), &plain_text, text.as_bytes());
}
