//! A program as a graph in Graphviz's language.

use std::collections::HashMap;
use std::fmt::Write;

use anemone_mil::program::{Function, LiteralValue, Op, Program, ValueId};
use anemone_mil::verify::CONST;

use super::short;

/// The graph: boxes are operations, ellipses inputs and outputs, cylinders weights; an edge carries the type
/// of the value that flows along it. Other constants are left out.
pub(super) fn draw(program: &Program) -> String {
    let mut graph = Graph { text: String::new() };
    graph.line(format_args!("digraph program {{"));
    graph.line(format_args!("    node [fontname=\"Helvetica\", fontsize=10];"));
    graph.line(format_args!("    edge [fontname=\"Helvetica\", fontsize=8];"));
    for (index, function) in program.functions.iter().enumerate() {
        graph.function(index, function);
    }
    graph.line(format_args!("}}"));
    graph.text
}

struct Graph {
    text: String,
}

impl Graph {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn function(&mut self, index: usize, function: &Function) {
        self.line(format_args!("    subgraph cluster_{index} {{"));
        self.line(format_args!("        label={};", quoted(&function.name)));
        let mut producers = HashMap::new();
        for id in &function.body.inputs {
            let node = format!("f{index}_in{}", id.0);
            self.line(format_args!("        {node} [label={}, shape=ellipse];", value_label(function, *id)));
            producers.insert(*id, node);
        }
        for (id, op) in function.walk() {
            let node = format!("f{index}_op{}", id.0);
            if !self.operation(&node, function, op) {
                continue;
            }
            producers.extend(op.results.iter().map(|result| (*result, node.clone())));
        }
        for (id, op) in function.walk() {
            self.edges(function, op, &format!("f{index}_op{}", id.0), &producers);
        }
        for (position, id) in function.body.outputs.iter().enumerate() {
            let node = format!("f{index}_out{position}");
            self.line(format_args!("        {node} [label={}, shape=ellipse];", value_label(function, *id)));
            self.edge(function, *id, &node, &producers);
        }
        self.line(format_args!("    }}"));
    }

    /// Draws an operation or a weight; `false` for a constant that is not drawn.
    fn operation(&mut self, node: &str, function: &Function, op: &Op) -> bool {
        let name = op.results.first().and_then(|id| function.values.get(id.0 as usize));
        let name = name.map_or("", |value| value.name.as_str());
        if op.name != CONST {
            let label = quoted(&format!("{}\n{name}", op.name));
            self.line(format_args!("        {node} [label={label}, shape=box];"));
            return true;
        }
        let weight = op.attributes.get("val").filter(|value| matches!(value.value, LiteralValue::Blob(_)));
        if weight.is_some() {
            self.line(format_args!("        {node} [label={}, shape=cylinder];", quoted(name)));
        }
        weight.is_some()
    }

    fn edges(&mut self, function: &Function, op: &Op, node: &str, producers: &HashMap<ValueId, String>) {
        for value in op.arguments.iter().flat_map(|(_, argument)| argument.values()) {
            self.edge(function, value, node, producers);
        }
    }

    fn edge(&mut self, function: &Function, from: ValueId, to: &str, producers: &HashMap<ValueId, String>) {
        if let (Some(producer), Some(value)) = (producers.get(&from), function.values.get(from.0 as usize)) {
            let label = quoted(&short(&value.ty));
            self.line(format_args!("        {producer} -> {to} [label={label}];"));
        }
    }
}

fn value_label(function: &Function, id: ValueId) -> String {
    match function.values.get(id.0 as usize) {
        Some(value) => quoted(&format!("{}\n{}", value.name, short(&value.ty))),
        None => quoted(""),
    }
}

/// A string in Graphviz's quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
