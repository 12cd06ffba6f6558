//! `anemone run` of Core ML models: images, classes, defaults and states.

use std::fs;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage};
use npyz::NpyFile;
use serde_json::{Value, json};

use super::support::{Place, Run, anemone, array, repository};

fn model(name: &str) -> String {
    repository().join("tests/coreml").join(name).to_str().unwrap().to_string()
}

/// Runs a model with some inputs, and flags; results go to `out`.
fn run(place: &Place, name: &str, inputs: &[(&str, &str)], flags: &[&str]) -> Run {
    let mut arguments = vec!["run".to_string(), model(name), "--output".to_string(), place.text("out")];
    for (name, path) in inputs {
        arguments.extend(["--input".to_string(), format!("{name}={path}")]);
    }
    arguments.extend(flags.iter().map(|flag| flag.to_string()));
    anemone(arguments)
}

fn picture(place: &Place, name: &str, picture: impl Into<DynamicImage>) -> String {
    let format = ImageFormat::from_path(name).unwrap();
    picture.into().save_with_format(place.path(name), format).unwrap();
    place.text(name)
}

fn values(place: &Place, name: &str) -> Vec<f32> {
    let bytes = fs::read(place.path(name)).unwrap();
    NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap()
}

/// Halves the brightness of a picture of 12 × 10, whose values it takes between 0 and 1.
#[test]
fn images_are_read_and_written() {
    let place = Place::new();
    let colors = |x: u32, y: u32| Rgb([(20 * x) as u8, (25 * y) as u8, (x + y) as u8]);
    let png = picture(&place, "x.png", RgbImage::from_fn(12, 10, colors));
    let run_of = |input: &str, flags: &[&str]| run(&place, "image.mlpackage", &[("picture", input)], flags);
    let dark = run_of(&png, &[]).ended(0);
    assert!(dark.stdout.starts_with("dark: "), "{}", dark.stdout);
    let values = values(&place, "out/dark.npy");
    for (at, &value) in values.iter().enumerate() {
        let (channel, y, x) = (at / 120, (at / 12 % 10) as u32, (at % 12) as u32);
        let expected = f32::from(colors(x, y).0[channel]) / 255.0 / 2.0;
        assert!((value - expected).abs() < 2e-3, "{channel} {y} {x}: {value}, {expected}");
    }
    // JPEG keeps an even colour almost as it is.
    let even = picture(&place, "x.jpg", RgbImage::from_pixel(12, 10, Rgb([100; 3])));
    run_of(&even, &[]).ended(0);
    assert!(self::values(&place, "out/dark.npy").iter().all(|value| (value - 50.0 / 255.0).abs() < 1e-2));
    let grey = picture(&place, "grey.png", GrayImage::from_pixel(12, 10, image::Luma([200])));
    run_of(&grey, &[]).ended(0);

    let large = picture(&place, "large.png", RgbImage::from_pixel(24, 20, Rgb([80; 3])));
    run_of(&large, &[]).failed(1, &["large.png", "`picture`", "24 × 20", "image RGB, 12 × 10", "--resize"]);
    run_of(&large, &["--resize"]).ended(0);
    assert!(self::values(&place, "out/dark.npy").iter().all(|value| (value - 40.0 / 255.0).abs() < 2e-3));
}

#[test]
fn what_is_no_image_is_refused() {
    let place = Place::new();
    let text = place.file("x.txt", "no image");
    let array = array(&place, "x.npy", &[1, 3, 10, 12], &[0f32; 360]);
    for file in [&text, &array] {
        let failed = run(&place, "image.mlpackage", &[("picture", file)], &[]);
        failed.failed(1, &["image for the input `picture`", "no PNG or JPEG file"]);
    }
    let png = picture(&place, "x.png", RgbImage::from_pixel(12, 10, Rgb([1; 3])));
    let cut = place.file("cut.png", &fs::read(&png).unwrap()[..60]);
    run(&place, "image.mlpackage", &[("picture", &cut)], &[]).failed(1, &["cut.png"]);
    run(&place, "image.mlpackage", &[("picture", "none.png")], &[]).failed(1, &["none.png"]);
    let given = [("x", png.as_str())];
    run(&place, "classifier.mlpackage", &given, &[])
        .failed(1, &["`x` is fp32 [1, 5], and an image is given"]);
    assert!(!place.path("out").exists());
}

#[test]
fn classes_come_with_their_probabilities() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[1, 5], &[1f32, -2.0, 3.0, 0.5, 0.0]);
    let text = run(&place, "classifier.mlpackage", &[("x", &x)], &[]).ended(0).stdout;
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap() };
    let (label, all) = (read("out/classLabel.json"), read("out/classLabel_probs.json"));
    let all_of = all.as_object().unwrap();
    assert_eq!(all_of.len(), 3);
    let sum: f64 = all_of.values().map(|value| value.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-2, "{all}");
    let best = all_of.iter().max_by(|a, b| a.1.as_f64().unwrap().total_cmp(&b.1.as_f64().unwrap())).unwrap();
    assert_eq!(label, json!(best.0));
    assert!(text.starts_with(&format!("classLabel: {label} in ")), "{text}");
    assert!(text.contains(&format!("classLabel_probs: {} {}", best.0, best.1)), "{text}");

    let lines = run(&place, "classifier.mlpackage", &[("x", &x)], &["--json"]).ended(0).json();
    let file = |name: &str| place.path("out").join(name);
    assert_eq!(lines[0], json!({"output": "classLabel", "label": label, "file": file("classLabel.json")}));
    let probabilities = json!({
        "output": "classLabel_probs", "probabilities": all, "file": file("classLabel_probs.json")
    });
    assert_eq!(lines[1], probabilities);
}

#[test]
fn defaults_and_states_are_the_descriptions() {
    let place = Place::new();
    let x = array(&place, "x.npy", &[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    run(&place, "optional.mlpackage", &[("x", &x)], &[]).ended(0);
    assert_eq!(values(&place, "out/y.npy"), [1.5, 2.5, 3.5, 4.5, 5.5, 6.5]);
    run(&place, "optional.mlpackage", &[], &[]).failed(1, &["nothing is given for the input `x`"]);
    let unknown = [("x", x.as_str()), ("y", &x)];
    run(&place, "optional.mlpackage", &unknown, &[]).failed(1, &["no input `y`", "`x`, `bias`"]);
    let twice = [("x", x.as_str()), ("x", &x)];
    run(&place, "optional.mlpackage", &twice, &[]).failed(1, &["`x` is given twice"]);

    let x = array(&place, "x.npy", &[1, 4], &[1f32, 2.0, 3.0, 4.0]);
    let kept = array(&place, "kept.npy", &[1, 4], &[10f32; 4]);
    run(&place, "state.mlpackage", &[("x", &x), ("kept", &kept)], &[]).ended(0);
    let halves = |name: &str| -> Vec<half::f16> {
        let bytes = fs::read(place.path(name)).unwrap();
        NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap()
    };
    let expected: Vec<half::f16> = [11.0, 12.0, 13.0, 14.0].map(half::f16::from_f32).to_vec();
    assert_eq!(halves("out/y.npy"), expected);
    assert_eq!(halves("out/kept.npy"), expected);
    // What is read stays what it was.
    let over = ["--input", &format!("kept={}", place.text("out/kept.npy"))].map(str::to_string);
    run(&place, "state.mlpackage", &[("x", &x)], &[&over[0], &over[1]]).failed(1, &["kept.npy"]);
    assert_eq!(halves("out/kept.npy"), expected);
}
