//! The minimum cut of a network between a source and a sink (Dinic 1970).

use std::collections::VecDeque;

/// A capacity that no cut pays for.
pub(super) const UNBOUNDED: u64 = u64::MAX / 4;

/// A directed network with capacities. Node 0 is the source, node 1 the sink.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// For each node the edges that leave it.
    leaving: Vec<Vec<usize>>,
    /// Target and what is left of the capacity; edge `2i + 1` is edge `2i` backwards.
    edges: Vec<(usize, u64)>,
}

impl Network {
    /// The source.
    pub(super) const SOURCE: usize = 0;
    /// The sink.
    pub(super) const SINK: usize = 1;

    /// A network of this many nodes, source and sink among them.
    pub(super) fn new(nodes: usize) -> Network {
        Network { leaving: vec![Vec::new(); nodes.max(2)], edges: Vec::new() }
    }

    /// Adds an edge.
    pub(super) fn connect(&mut self, from: usize, to: usize, capacity: u64) {
        self.leaving[from].push(self.edges.len());
        self.edges.push((to, capacity));
        self.leaving[to].push(self.edges.len());
        self.edges.push((from, 0));
    }

    /// Fills the network as far as it goes, and gives for each node whether it is on the source's side of the minimum
    /// cut nearest to the sink: whether the sink cannot be reached from it.
    pub(super) fn cut(mut self) -> Vec<bool> {
        loop {
            let levels = self.levels();
            if levels[Network::SINK] == usize::MAX {
                break;
            }
            let mut next = vec![0; self.leaving.len()];
            while self.augment(&levels, &mut next) {}
        }
        self.reaching_sink().into_iter().map(|reaches| !reaches).collect()
    }

    /// The distance of each node from the source along edges that are not full.
    fn levels(&self) -> Vec<usize> {
        let mut levels = vec![usize::MAX; self.leaving.len()];
        levels[Network::SOURCE] = 0;
        let mut queue = VecDeque::from([Network::SOURCE]);
        while let Some(node) = queue.pop_front() {
            for &edge in &self.leaving[node] {
                let (to, left) = self.edges[edge];
                if left > 0 && levels[to] == usize::MAX {
                    levels[to] = levels[node] + 1;
                    queue.push_back(to);
                }
            }
        }
        levels
    }

    /// Sends as much as goes along one path of rising levels, without recursion: paths are as long as programs.
    fn augment(&mut self, levels: &[usize], next: &mut [usize]) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut node = Network::SOURCE;
        while node != Network::SINK {
            let found = self.leaving[node][next[node]..].iter().position(|&edge| {
                let (to, left) = self.edges[edge];
                left > 0 && levels[to] == levels[node] + 1
            });
            match found {
                Some(skipped) => {
                    next[node] += skipped;
                    path.push(self.leaving[node][next[node]]);
                    node = self.edges[self.leaving[node][next[node]]].0;
                }
                None => {
                    next[node] = self.leaving[node].len();
                    let Some(edge) = path.pop() else { return false };
                    node = self.edges[edge ^ 1].0;
                    next[node] += 1;
                }
            }
        }
        let flow = path.iter().map(|&edge| self.edges[edge].1).min().unwrap_or(0);
        for edge in path {
            self.edges[edge].1 -= flow;
            self.edges[edge ^ 1].1 = self.edges[edge ^ 1].1.saturating_add(flow);
        }
        true
    }

    /// The nodes from which the sink can be reached along edges that are not full.
    fn reaching_sink(&self) -> Vec<bool> {
        let mut reaches = vec![false; self.leaving.len()];
        reaches[Network::SINK] = true;
        let mut queue = VecDeque::from([Network::SINK]);
        while let Some(node) = queue.pop_front() {
            for &edge in &self.leaving[node] {
                let from = self.edges[edge].0;
                if self.edges[edge ^ 1].1 > 0 && !reaches[from] {
                    reaches[from] = true;
                    queue.push_back(from);
                }
            }
        }
        reaches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_edges_are_cut() {
        // source → 2 → 3 → sink, and 2 → 4 → sink.
        let mut network = Network::new(5);
        network.connect(Network::SOURCE, 2, UNBOUNDED);
        network.connect(2, 3, 7);
        network.connect(3, Network::SINK, 4);
        network.connect(2, 4, 1);
        network.connect(4, Network::SINK, UNBOUNDED);
        assert_eq!(network.cut(), [true, false, true, true, false]);
    }

    #[test]
    fn of_two_equal_cuts_the_one_near_the_sink_is_taken() {
        let mut network = Network::new(4);
        network.connect(Network::SOURCE, 2, 3);
        network.connect(2, 3, UNBOUNDED);
        network.connect(3, Network::SINK, 3);
        assert_eq!(network.cut(), [true, false, true, true]);
    }
}
