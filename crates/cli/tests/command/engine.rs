//! `--runtime ane`, against the library that stands in for the system's.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

use anemone_lm::log;
use half::f16;

use crate::common::number;

use super::support::{Place, Run, anemone, array, command, finished};

/// y = x², in fp16, as the engine takes it.
const PROGRAM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 16, 1, 32]> x) {
            tensor<fp16, [1, 16, 1, 32]> y = mul(x = x, y = x)[name = string("y")];
        } -> (y);
}
"#;

/// The stand-in, which is built beside this test.
pub fn library() -> PathBuf {
    let directory = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = directory.join(format!("{DLL_PREFIX}anemone_ane_stand_in{DLL_SUFFIX}"));
    assert!(library.exists(), "{} is not built", library.display());
    library
}

/// Runs the command on the engine, with these variables of the stand-in; its temporary directory must be empty after.
#[track_caller]
fn on_engine(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let temporary = place.path("temporary");
    fs::create_dir_all(&temporary).unwrap();
    let mut command = command();
    command
        .args(arguments)
        .args(["--runtime", "ane"])
        .env("ANEMONE_E5RT", library())
        .env("TMPDIR", &temporary);
    command.env("ANEMONE_ANE_RECOVERY_MS", "50");
    command.envs(variables.iter().map(|(name, value)| (format!("ANEMONE_STAND_IN_{name}"), value)));
    let run = finished(command.output().unwrap());
    assert!(!run.stderr.contains("not released"), "{run:#?}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "something is left of {arguments:?}");
    run
}

fn run_arguments(place: &Place) -> Vec<String> {
    let values: Vec<f16> = (0..512).map(|i| f16::from_f32(i as f32 / 64.0 - 4.0)).collect();
    let x = array(place, "x.npy", &[1, 16, 1, 32], &values);
    let file = place.file("program.mil", PROGRAM);
    vec!["run".into(), file, "--input".into(), format!("x={x}"), "--output".into(), place.text("out")]
}

fn run(place: &Place, more: &[&str], variables: &[(&str, &str)]) -> Run {
    let arguments = run_arguments(place);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    on_engine(place, &arguments, variables)
}

#[test]
fn a_program_runs_on_the_engine() {
    let place = Place::new();
    let ran = run(&place, &["--fallback", "none"], &[]).ended(0);
    assert_eq!(ran.stderr, "");
    let bytes = fs::read(place.path("out/y.npy")).unwrap();
    let values =
        bytes[bytes.len() - 1024..].chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
    for (i, value) in values.enumerate() {
        let x = i as f32 / 64.0 - 4.0;
        assert!((value - x * x).abs() <= x * x / 1024.0 + 1e-7, "{i}: {value}");
    }
}

#[test]
fn what_does_not_compile_runs_on_the_cpu_with_a_warning_or_not_at_all() {
    let place = Place::new();
    let ran = run(&place, &[], &[("COMPILATIONS", "0")]).ended(0);
    assert!(ran.stderr.contains("warning: `main`, which gives y, runs on cpu, not the engine: "), "{ran:#?}");
    assert!(place.path("out/y.npy").exists());
    run(&place, &["--fallback", "none"], &[("COMPILATIONS", "0")])
        .failed(1, &["error: the runtime ane fails: the engine's compiler refuses the program"]);
}

#[test]
fn what_a_rule_refuses_does_not_compile() {
    let place = Place::new();
    let arguments = run_arguments(&place);
    place.file("program.mil", PROGRAM.replace("fp16", "fp32"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["--fallback", "none"]).collect();
    on_engine(&place, &arguments, &[]).failed(1, &["R15", "refuses the program"]);
}

#[test]
fn a_run_that_fails_is_an_error() {
    let place = Place::new();
    run(&place, &[], &[("FAIL_RUN", "1")])
        .failed(1, &["error: the runtime ane fails: the engine fails to run"]);
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    run(&place, &[], &[("INTERRUPT_RUN", "1")]).failed(1, &["error: the runtime ane fails: interrupted"]);
    train(&place, "out", &[], &[("INTERRUPT_RUN", "7")]).failed(1, &["interrupted"]);
}

#[test]
fn libraries_that_are_none_are_each_one_paragraph() {
    let place = Place::new();
    let arguments = run_arguments(&place);
    let with = |library: &str| {
        let mut command = command();
        finished(
            command
                .args(&arguments)
                .args(["--runtime", "ane"])
                .env("ANEMONE_E5RT", library)
                .output()
                .unwrap(),
        )
    };
    let cases: &[(&str, &[&str])] = &[
        ("/no/such/library.so", &["/no/such/library.so cannot be loaded"]),
        (&place.file("text.so", "no library"), &["text.so cannot be loaded"]),
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        (
            "libm.so.6",
            &["libm.so.6 has no function `e5rt_e5_compiler_config_options_create`", "another version"],
        ),
        #[cfg(not(target_os = "macos"))]
        ("", &["needs a Mac"]),
    ];
    for (library, words) in cases {
        let ran = with(library).failed(1, words);
        assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{ran:#?}");
    }
}

#[cfg(not(target_os = "macos"))]
#[test]
fn the_interface_in_memory_needs_a_mac_even_beside_a_library() {
    let place = Place::new();
    let ran = run(&place, &["--interface", "in-memory"], &[]).failed(1, &["needs a Mac", "ane-sim"]);
    assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{ran:#?}");
    run(&place, &["--interface", "memory"], &[]).failed(2, &["in-memory", "e5rt"]);
}

const CONFIG: &str = r#"
[model]
vocab = 256
dim = 16
[train]
batch = 2
seq = 16
steps = 12
warmup = 3
validation_interval = 5
checkpoint_interval = 4
dtype = "fp16"
"#;

/// The losses of a run, to the bit.
fn losses(directory: &Path) -> Vec<(u64, u64, Option<u64>)> {
    let records = log::read(&directory.join("log.jsonl")).unwrap();
    let numbers =
        |record: &log::Record| (record.step, record.loss.to_bits(), record.val_loss.map(f64::to_bits));
    records.iter().map(numbers).collect()
}

fn train(place: &Place, out: &str, more: &[&str], variables: &[(&str, &str)]) -> Run {
    let text: String = (0..200).map(|i| format!("line {i} says that {} sheep sleep\n", i * i % 37)).collect();
    let (config, data) = (place.file("config.toml", CONFIG), place.file("text.txt", text));
    let out = place.text(out);
    let arguments = ["train", "--config", &config, "--data", &data, "--out", &out, "--offload", "head"];
    let arguments: Vec<&str> = arguments.into_iter().chain(more.iter().copied()).collect();
    on_engine(place, &arguments, variables)
}

#[test]
fn baked_weights_go_on_in_another_process_with_the_same_losses() {
    let place = Place::new();
    // One for each of the five programs; the sample is the host's.
    let whole = train(&place, "whole", &["--products", "exact"], &[("COMPILATIONS", "5")]).ended(0);
    assert!(!whole.stderr.contains("warning"), "{whole:#?}");
    let expected = losses(&place.path("whole"));
    // Many processes; each does two steps and a half, so that validation fails after a step, too.
    for limit in ["7", "10", "11"] {
        let out = format!("baked-{limit}");
        let flags = ["--weights", "baked", "--compilations", limit, "--products", "exact"];
        let baked = train(&place, &out, &flags, &[("COMPILATIONS", limit)]).ended(0);
        assert!(baked.stderr.matches("going on after step").count() >= 3, "{baked:#?}");
        assert_eq!(losses(&place.path(&out)), expected, "{limit}");
        assert_eq!(whole.stdout.replace("whole", &out), baked.stdout);
    }
    // Fewer than one step takes are no loop without end.
    let flags = ["--weights", "baked", "--compilations", "4"];
    train(&place, "too-few", &flags, &[]).failed(1, &["the 4 compilations that the engine's compiler does"]);
}

/// A thousand updates, or as many as `ANEMONE_BAKED_UPDATES` says, with the engine's own limit.
#[test]
fn many_updates_of_baked_weights_survive_the_limit() {
    let updates = number("ANEMONE_BAKED_UPDATES", 60);
    let steps = updates.to_string();
    let place = Place::new();
    let flags = ["--steps", &steps];
    train(&place, "whole", &flags, &[]).ended(0);
    let flags = ["--steps", &steps, "--weights", "baked"];
    let baked = train(&place, "baked", &flags, &[]).ended(0);
    // Four programs have weights; 119 is the engine's limit.
    let restarts = baked.stderr.matches("going on after step").count() as u64;
    assert!(restarts >= 4 * updates / 119, "{baked:#?}");
    assert_eq!(losses(&place.path("baked")), losses(&place.path("whole")));
}

/// Layers on the engine: as many programs whatever the depth, and the simulator's losses, to the bit.
///
/// `ANEMONE_LAYER_STEPS=100` trains the built-in `tiny` for so many steps, not small models for a few.
#[test]
fn layers_on_the_engine_are_the_simulators_with_eight_programs() {
    let place = Place::new();
    let text: String = (0..60).map(|i| format!("line {i} says that {} sheep sleep\n", i * i % 37)).collect();
    let data = place.file("text.txt", text);
    let small = |layers: usize| {
        let config = format!(
            "[model]\ndim = 32\nlayers = {layers}\nheads = 2\nkv_heads = 1\nhidden = 48\ntied = true\n\
             [train]\nbatch = 2\nseq = 16\nsteps = 4\nlr = 1e-3\n"
        );
        let config = place.file(&format!("{layers}.toml"), config);
        ["--config", &config, "--data", &data].map(str::to_string).to_vec()
    };
    let runs = match std::env::var("ANEMONE_LAYER_STEPS") {
        Ok(steps) => vec![vec!["--config".to_string(), "tiny".into(), "--steps".into(), steps]],
        Err(_) => vec![small(2), small(6)],
    };
    for (index, flags) in runs.iter().enumerate() {
        let train = |name: &str, more: &[&str], on: &dyn Fn(&[&str]) -> Run| {
            let out = place.text(&format!("{name}-{index}"));
            let flags = flags.iter().map(String::as_str).chain(more.iter().copied());
            let arguments: Vec<&str> = ["train", "--out", &out].into_iter().chain(flags).collect();
            let start = std::time::Instant::now();
            let run = on(&arguments).ended(0);
            let losses = losses(Path::new(&out));
            println!("{name}: {} steps in {:?}", losses.len(), start.elapsed());
            (run, losses)
        };
        let (_, cpu) = train("cpu", &[], &|arguments| anemone(arguments));
        let flags = ["--offload", "all", "--chip", "m4"];
        let simulated = |arguments: &[&str]| anemone([arguments, &["--runtime", "ane-sim"]].concat());
        let (run, simulated) = train("simulated", &flags, &simulated);
        for line in
            ["on ane-sim (m4):\n  layers     3 programs, for m4, for all ", "on the host:\n  embedding  "]
        {
            assert!(run.stderr.contains(line), "{run:#?}");
        }
        let worst = cpu.iter().zip(&simulated).map(|(&(_, cpu, _), &(_, simulated, _))| {
            let [cpu, simulated] = [cpu, simulated].map(f64::from_bits);
            (simulated / cpu - 1.0).abs()
        });
        let worst = worst.fold(0.0, f64::max);
        let [first, last] =
            [&simulated[0], &simulated[simulated.len() - 1]].map(|step| f64::from_bits(step.1));
        println!("losses from {first} to {last}; at most {worst:.2e} from those of the CPU");
        assert!(worst < 0.05 && cpu != simulated, "{worst}: {cpu:?}, {simulated:?}");
        // With one compilation less there would be an error.
        let flags = [&flags[..], &["--fallback", "none"]].concat();
        let on = |limit: &'static str| {
            let place = &place;
            move |arguments: &[&str]| on_engine(place, arguments, &[("COMPILATIONS", limit)])
        };
        let (_, engine) = train("engine", &flags, &on("8"));
        assert_eq!(engine, simulated);
        let out = place.text(&format!("few-{index}"));
        let arguments: Vec<&str> =
            ["train", "--out", &out].into_iter().chain(flags.iter().copied()).collect();
        let arguments =
            [&arguments[..], &runs[index].iter().map(String::as_str).collect::<Vec<_>>()].concat();
        on("7")(&arguments).failed(1, &["the engine's compiler refuses the program"]);
    }
}
