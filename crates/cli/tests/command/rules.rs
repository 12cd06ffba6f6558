//! `anemone rules`.

use serde_json::json;

use super::support::anemone;

#[test]
fn rules_are_listed_with_chips_confidence_and_source() {
    let text = anemone(["rules"]).ended(0).stdout;
    let expected = "R3   the inner dimension of a matmul is at most 32768\n     chips m4; by e5rt, in-memory, core-ml; \
                    refused; measured: S\n     instead: cut the inner dimension in tiles and add the partial sums\n";
    assert!(text.contains(expected), "{text}");
    let elsewhere = text.split("\nR13 ").nth(1).unwrap().split("\nR14 ").next().unwrap();
    assert!(elsewhere.ends_with("not in the text: the device layer keeps it"), "{elsewhere}");
    let json = anemone(["rules", "--json"]).ended(0).json();
    for (index, rule) in json.iter().enumerate() {
        assert_eq!(rule["rule"], format!("R{}", index + 1));
    }
    let of_r30 = &json[29];
    assert_eq!((&of_r30["chips"], &of_r30["confidence"]), (&json!(["m1", "m2"]), &json!("contested")));
    assert_eq!(of_r30["interfaces"], json!(["e5rt", "in-memory"]));
    assert_eq!((&of_r30["checked"], &of_r30["elsewhere"]), (&json!(true), &json!(null)));
    assert_eq!((&json[12]["checked"], &json[12]["effect"]), (&json!(false), &json!("silently wrong")));
}

#[test]
fn one_chips_rules_are_listed_alone() {
    let json = anemone(["rules", "--chip", "M6", "--json"]).ended(0).json();
    assert!(json.iter().all(|rule| rule["chips"].as_array().unwrap().contains(&json!("m6"))));
    assert!(json.len() < anemone(["rules", "--json"]).ended(0).json().len());
    anemone(["rules", "--chip", "a17"])
        .failed(2, &["`a17` is no chip; there are m1, m2, m3, m4, m5, m6, or all"]);
}
