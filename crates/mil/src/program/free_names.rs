//! FreeNames that are free in a function.

use std::collections::{HashMap, HashSet};

use crate::program::Function;
use crate::verify::is_reserved;

/// The names that the values of a function have, and free ones made of them.
#[derive(Debug, Clone, Default)]
pub struct FreeNames {
    taken: HashSet<String>,
    /// For each base the next number to try: those before are taken.
    next: HashMap<String, usize>,
}

impl FreeNames {
    /// The names of a function's values, nested blocks included.
    pub fn of(function: &Function) -> FreeNames {
        let taken = function.values.iter().map(|value| value.name.clone()).collect();
        FreeNames { taken, next: HashMap::new() }
    }

    /// Whether a name is taken.
    pub fn contains(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Takes a name, if it is free.
    pub fn reserve(&mut self, name: String) -> bool {
        self.taken.insert(name)
    }

    /// Takes a name that is free and no word of the language: this one, or it with a number.
    pub fn free(&mut self, base: &str) -> String {
        if !is_reserved(base) && !self.taken.contains(base) {
            self.taken.insert(base.to_string());
            return base.to_string();
        }
        let next = self.next.entry(base.to_string()).or_insert(1);
        loop {
            let name = format!("{base}_{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_names_are_numbered_past_those_taken() {
        let mut names = FreeNames::default();
        assert!(names.reserve("x_2".to_string()));
        assert!(!names.reserve("x_2".to_string()));
        let free: Vec<String> = (0..4).map(|_| names.free("x")).collect();
        assert_eq!(free, ["x", "x_1", "x_3", "x_4"]);
        assert_eq!(names.free("tensor"), "tensor_1");
        assert_eq!(names.free("x_1"), "x_1_1");
        assert!(names.contains("x_1_1"));
    }
}
