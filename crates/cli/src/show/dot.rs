//! A program as a graph in Graphviz's language.

use std::collections::HashMap;
use std::fmt::Write;

use anemone_mil::ops;
use anemone_mil::program::{Block, Function, LiteralValue, Op, Program, ValueId};
use anemone_mil::verify::CONST;

use super::short;

/// The graph: boxes are operations, ellipses inputs and outputs, cylinders weights; an edge carries the type
/// of the value that flows along it; a box round others is a function or a nested block. Other constants are left out.
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

/// A function while it is drawn.
struct Drawing<'a> {
    index: usize,
    function: &'a Function,
    /// What is drawn that gives each value.
    producers: HashMap<ValueId, String>,
    /// Where each value goes; drawn last, since nodes belong to the innermost box that names them first.
    arrows: Vec<(ValueId, String)>,
}

impl Graph {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn function(&mut self, index: usize, function: &Function) {
        self.line(format_args!("    subgraph cluster_{index} {{"));
        self.line(format_args!("        label={};", quoted(&function.name)));
        let mut drawing = Drawing { index, function, producers: HashMap::new(), arrows: Vec::new() };
        self.block(&mut drawing, &function.body, &format!("f{index}"), 2);
        for (from, to) in drawing.arrows {
            if let (Some(producer), Some(value)) =
                (drawing.producers.get(&from), function.values.get(from.index()))
            {
                let label = quoted(&short(&value.ty));
                self.line(format_args!("        {producer} -> {to} [label={label}];"));
            }
        }
        self.line(format_args!("    }}"));
    }

    /// Draws what a block takes, its operations with the blocks nested in them, and what it yields. `prefix` begins the
    /// names of what is drawn of the block itself.
    fn block(&mut self, drawing: &mut Drawing<'_>, block: &Block, prefix: &str, depth: usize) {
        let (index, function) = (drawing.index, drawing.function);
        let indent = "    ".repeat(depth);
        for id in &block.inputs {
            let node = format!("{prefix}_in{}", id.0);
            self.line(format_args!("{indent}{node} [label={}, shape=ellipse];", value_label(function, *id)));
            drawing.producers.insert(*id, node);
        }
        for &id in &block.ops {
            let (node, op) = (format!("f{index}_op{}", id.0), function.op(id));
            if self.operation(&node, function, op, &indent) {
                drawing.producers.extend(op.results.iter().map(|result| (*result, node.clone())));
            }
            drawing.arrows.extend(op.reads().map(|value| (value, node.clone())));
            let names = ops::lookup(&op.name, op.opset.unwrap_or(function.opset)).and_then(|row| row.blocks);
            for (position, nested) in op.blocks.iter().enumerate() {
                let name = names.and_then(|rules| rules.names.get(position)).copied().unwrap_or("block");
                self.line(format_args!("{indent}subgraph cluster_{node}_{position} {{"));
                self.line(format_args!("{indent}    label={};", quoted(&format!("{}: {name}", op.name))));
                self.block(drawing, nested, &format!("{node}_{position}"), depth + 1);
                self.line(format_args!("{indent}}}"));
            }
        }
        for (position, id) in block.outputs.iter().enumerate() {
            let node = format!("{prefix}_out{position}");
            self.line(format_args!("{indent}{node} [label={}, shape=ellipse];", value_label(function, *id)));
            drawing.arrows.push((*id, node));
        }
    }

    /// Draws an operation or a weight; `false` for a constant that is not drawn.
    fn operation(&mut self, node: &str, function: &Function, op: &Op, indent: &str) -> bool {
        let name = op.results.first().and_then(|id| function.values.get(id.0 as usize));
        let name = name.map_or("", |value| value.name.as_str());
        if op.name != CONST {
            let label = quoted(&format!("{}\n{name}", op.name));
            self.line(format_args!("{indent}{node} [label={label}, shape=box];"));
            return true;
        }
        let weight = op.attributes.get("val").filter(|value| matches!(value.value, LiteralValue::Blob(_)));
        if weight.is_some() {
            self.line(format_args!("{indent}{node} [label={}, shape=cylinder];", quoted(name)));
        }
        weight.is_some()
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
