//! Attention and its gradients, written out.
#![allow(dead_code, unreachable_pub)] // Each test uses a part, and one is not an integration test.

/// The channels of queries and keys, and of values.
pub const CHANNELS: [usize; 2] = [8, 5];

/// What masks scores.
#[derive(Clone, Copy, Debug)]
pub enum Masked {
    /// Keys that come later than a query, by their positions; the last key's position is the last query's.
    Later,
    /// What is given is added: of each head and query its own, or of each pair of heads one for all queries.
    Added { of_queries: bool },
}

/// Two groups of heads, those of each sharing keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub dtype: &'static str,
    pub queries: usize,
    pub keys: usize,
    /// Heads of a group.
    pub shared: usize,
    /// Whether matrices have a row for each position, and not for each channel.
    pub by_rows: bool,
    pub scaled: bool,
    pub mask: Masked,
}

impl Written {
    /// A matrix of each head, or of each group.
    fn matrices(&self, heads: usize, positions: usize, channels: usize) -> String {
        let [rows, columns] = if self.by_rows { [positions, channels] } else { [channels, positions] };
        format!("tensor<{}, [2, {heads}, {rows}, {columns}]>", self.dtype)
    }

    /// Adds an op that makes a value of this type.
    fn op(body: &mut String, ty: &str, name: &str, call: &str) {
        *body += &format!("            {ty} {name} = {call}[name = string(\"{name}\")];\n");
    }

    /// A row for each query and a column for each key, from vectors of both.
    fn pairs(&self, x: &str, y: &str) -> String {
        let by_rows = self.by_rows;
        format!("matmul(x = {x}, y = {y}, transpose_x = bool({}), transpose_y = bool({by_rows}))", !by_rows)
    }

    /// Vectors that such a matrix, or its transpose, mixes from others.
    fn mixed(&self, weights: &str, other: &str, transposed: bool) -> String {
        let (x, y, turned) = if self.by_rows {
            (weights, other, [transposed, false])
        } else {
            (other, weights, [false, !transposed])
        };
        format!(
            "matmul(x = {x}, y = {y}, transpose_x = bool({}), transpose_y = bool({}))",
            turned[0], turned[1]
        )
    }

    fn square(&self) -> String {
        format!("tensor<{}, [2, {}, {}, {}]>", self.dtype, self.shared, self.queries, self.keys)
    }

    /// The ops of the probabilities p, of q and k.
    fn probabilities(&self) -> String {
        let Written { dtype, queries, keys, .. } = *self;
        let (mut body, square) = (String::new(), self.square());
        Self::op(&mut body, &square, "products", &self.pairs("q", "k"));
        let mut scores = "products";
        if self.scaled {
            Self::op(&mut body, &square, "scores", &format!("mul(x = products, y = {dtype}(0.375))"));
            scores = "scores";
        }
        let list = |first: usize, count: usize, between: &str| {
            (first..first + count).map(|i| i.to_string()).collect::<Vec<_>>().join(between)
        };
        match self.mask {
            Masked::Later => {
                let later = format!(
                    "greater(x = tensor<int32, [1, 1, 1, {keys}]>([[[[{}]]]]), y = tensor<int32, [1, 1, {queries}, 1]>([[[[{}]]]]))",
                    list(0, keys, ", "),
                    list(keys.saturating_sub(queries), queries, "], [")
                );
                Self::op(&mut body, &format!("tensor<bool, [1, 1, {queries}, {keys}]>"), "later", &later);
                let select = format!("select(cond = later, a = {dtype}(-inf), b = {scores})");
                Self::op(&mut body, &square, "masked", &select);
            }
            Masked::Added { .. } => {
                Self::op(&mut body, &square, "masked", &format!("add(x = {scores}, y = mask)"));
            }
        }
        Self::op(&mut body, &square, "p", "softmax(x = masked, axis = int32(-1))");
        body
    }

    /// A program of these ops.
    fn program(&self, inputs: &str, body: &str, results: &str) -> String {
        let Written { dtype, queries, keys, shared, .. } = *self;
        let mask = match self.mask {
            Masked::Later => String::new(),
            Masked::Added { of_queries: true } => {
                format!(", tensor<{dtype}, [2, {shared}, {queries}, {keys}]> mask")
            }
            Masked::Added { of_queries: false } => format!(", tensor<{dtype}, [2, 1, 1, {keys}]> mask"),
        };
        let q = self.matrices(shared, queries, CHANNELS[0]);
        let [k, v] = CHANNELS.map(|channels| self.matrices(1, keys, channels));
        format!(
            "program(1.3)\n{{\n    func main<ios18>({q} q, {k} k, {v} v{mask}{inputs}) {{\n{body}        }} -> ({results});\n}}\n"
        )
    }

    /// q, k and v → y.
    pub fn forward(&self) -> String {
        let mut body = self.probabilities();
        let y = self.matrices(self.shared, self.queries, CHANNELS[1]);
        Self::op(&mut body, &y, "y", &self.mixed("p", "v", false));
        self.program("", &body, "y")
    }

    /// q, k, v and dy → dq, dk and dv.
    pub fn backward(&self) -> String {
        let Written { dtype, queries, keys, shared, .. } = *self;
        let (mut body, square) = (self.probabilities(), self.square());
        let body = &mut body;
        Self::op(body, &square, "dp", &self.pairs("dy", "v"));
        Self::op(body, &square, "along", "mul(x = dp, y = p)");
        let sums = "reduce_sum(x = along, axes = tensor<int32, [1]>([3]), keep_dims = bool(true))";
        Self::op(body, &format!("tensor<{dtype}, [2, {shared}, {queries}, 1]>"), "sums", sums);
        Self::op(body, &square, "centred", "sub(x = dp, y = sums)");
        Self::op(body, &square, "ds", "mul(x = centred, y = p)");
        let mut ds = "ds";
        if self.scaled {
            Self::op(body, &square, "scaled", &format!("mul(x = ds, y = {dtype}(0.375))"));
            ds = "scaled";
        }
        Self::op(body, &self.matrices(shared, queries, CHANNELS[0]), "dq", &self.mixed(ds, "k", false));
        for (name, weights, other, channels) in [("dk", ds, "q", CHANNELS[0]), ("dv", "p", "dy", CHANNELS[1])]
        {
            let all = format!("{name}_all");
            Self::op(body, &self.matrices(shared, keys, channels), &all, &self.mixed(weights, other, true));
            let sum =
                format!("reduce_sum(x = {all}, axes = tensor<int32, [1]>([1]), keep_dims = bool(true))");
            Self::op(body, &self.matrices(1, keys, channels), name, &sum);
        }
        let dy = self.matrices(shared, queries, CHANNELS[1]);
        self.program(&format!(", {dy} dy"), body, "dq, dk, dv")
    }
}
