//! Token sequences as a trie, so shared prefixes are computed once.

use std::collections::BTreeMap;

/// A sequence to score: its last `targets.len()` positions predict `targets`.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The tokens that the model reads.
    pub input: &'a [u32],
    /// The scored tokens; no more than there are in `input`.
    pub targets: &'a [u32],
}

/// A scored token at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// The position, relative to the node's first token.
    pub offset: usize,
    /// The scored token.
    pub token: u32,
    /// The query it belongs to.
    pub query: usize,
}

/// A run of tokens shared by every sequence through it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// The parent run.
    pub parent: Option<usize>,
    /// The child runs.
    pub children: Vec<usize>,
    /// Number of tokens before it in its sequences.
    pub depth: usize,
    /// Its tokens; only the root may have none.
    pub tokens: Vec<u32>,
    /// The scored tokens at its positions, by offset.
    pub wants: Vec<Want>,
}

/// The trie of some sequences; node 0 is its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trie {
    /// The nodes, each after its parent.
    pub nodes: Vec<Node>,
}

impl Trie {
    /// The trie of all queries. A run of more than `longest` tokens is split into consecutive nodes, which limits the
    /// size of a pass.
    pub fn new(queries: &[Query<'_>], longest: usize) -> Self {
        let mut by_input: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (at, query) in queries.iter().enumerate() {
            by_input.entry(query.input).or_default().push(at);
        }
        let sorted: Vec<&[u32]> = by_input.keys().copied().collect();
        let mut trie = Self { nodes: Vec::new() };
        let ends = trie.grow(&sorted, longest.max(1));
        for (end, owners) in ends.into_iter().zip(by_input.values()) {
            for &owner in owners {
                trie.ask(end, owner, &queries[owner]);
            }
        }
        trie.nodes.iter_mut().for_each(|node| node.wants.sort_unstable());
        trie
    }

    /// Total tokens of all nodes, which is the cost of a walk.
    pub fn tokens(&self) -> usize {
        self.nodes.iter().map(|node| node.tokens.len()).sum()
    }

    /// Creates the nodes of ascending, distinct sequences; returns each sequence's last node.
    fn grow(&mut self, sorted: &[&[u32]], longest: usize) -> Vec<usize> {
        let mut ends = vec![0; sorted.len()];
        // Sequences that share `depth` tokens, and the node where those tokens end.
        let mut work = vec![(0..sorted.len(), 0, None)];
        while let Some((range, depth, parent)) = work.pop() {
            let (Some(first), Some(last)) = (sorted[range.clone()].first(), sorted[range.clone()].last())
            else {
                self.nodes.push(Node::default());
                continue;
            };
            // In ascending order a prefix of both first and last is shared by all.
            let shared =
                depth + first[depth..].iter().zip(&last[depth..]).take_while(|(a, b)| a == b).count();
            let number = self.push(&first[depth..shared], depth, parent, longest);
            let mut start = range.start;
            if first.len() == shared {
                ends[start] = number;
                start += 1;
            }
            while start < range.end {
                let token = sorted[start][shared];
                let count =
                    sorted[start..range.end].iter().take_while(|sequence| sequence[shared] == token).count();
                work.push((start..start + count, shared, Some(number)));
                start += count;
            }
        }
        ends
    }

    /// Adds a run after a node, in pieces; returns the last one.
    fn push(&mut self, tokens: &[u32], mut depth: usize, mut parent: Option<usize>, longest: usize) -> usize {
        let mut rest = tokens;
        loop {
            let (piece, others) = rest.split_at(rest.len().min(longest));
            let number = self.nodes.len();
            self.nodes.push(Node { parent, depth, tokens: piece.to_vec(), ..Node::default() });
            if let Some(parent) = parent {
                self.nodes[parent].children.push(number);
            }
            (rest, depth, parent) = (others, depth + piece.len(), Some(number));
            if rest.is_empty() {
                return number;
            }
        }
    }

    /// Records a query's scored tokens from its end to the root.
    fn ask(&mut self, end: usize, query: usize, request: &Query<'_>) {
        let first = request.input.len() - request.targets.len();
        let mut at = Some(end);
        while let Some(number) = at {
            let node = &mut self.nodes[number];
            // Scored positions of this node.
            for position in node.depth.max(first)..(node.depth + node.tokens.len()).min(request.input.len()) {
                let token = request.targets[position - first];
                node.wants.push(Want { offset: position - node.depth, token, query });
            }
            at = if node.depth > first { node.parent } else { None };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tokens from the root to the end of a node.
    fn path(trie: &Trie, mut number: usize) -> Vec<u32> {
        let mut tokens = trie.nodes[number].tokens.clone();
        while let Some(parent) = trie.nodes[number].parent {
            tokens = [trie.nodes[parent].tokens.clone(), tokens].concat();
            number = parent;
        }
        tokens
    }

    proptest! {
        #[test]
        fn every_query_is_asked_once_at_each_of_its_positions_and_no_prefix_is_there_twice(
            inputs in proptest::collection::vec((proptest::collection::vec(0u32..3, 1..8), 1usize..8), 0..20),
            longest in 1usize..9,
        ) {
            let inputs: Vec<(Vec<u32>, Vec<u32>)> = inputs
                .into_iter()
                .map(|(input, n)| {
                    let targets = (0..n.min(input.len()) as u32).collect();
                    (input, targets)
                })
                .collect();
            let queries: Vec<Query> = inputs.iter().map(|(input, targets)| Query { input, targets }).collect();
            let trie = Trie::new(&queries, longest);
            prop_assert!(trie.nodes.iter().all(|node| node.tokens.len() <= longest));
            let mut wants: Vec<Vec<(usize, u32)>> = vec![Vec::new(); queries.len()];
            let mut prefixes = std::collections::BTreeSet::new();
            for (number, node) in trie.nodes.iter().enumerate() {
                let whole = path(&trie, number);
                prop_assert_eq!(node.depth + node.tokens.len(), whole.len());
                for end in node.depth..whole.len() {
                    prop_assert!(prefixes.insert(whole[..=end].to_vec()), "a prefix is there twice");
                }
                for want in &node.wants {
                    prop_assert!(inputs[want.query].0.starts_with(&whole[..=node.depth + want.offset]));
                    wants[want.query].push((node.depth + want.offset, want.token));
                }
            }
            for (query_wants, (input, targets)) in wants.iter_mut().zip(&inputs) {
                query_wants.sort_unstable();
                let first = input.len() - targets.len();
                let expected: Vec<(usize, u32)> =
                    targets.iter().enumerate().map(|(n, token)| (first + n, *token)).collect();
                prop_assert_eq!(&*query_wants, &expected);
            }
            let distinct: std::collections::BTreeSet<&[u32]> = inputs
                .iter()
                .flat_map(|(input, _)| (1..=input.len()).map(move |end| &input[..end]))
                .collect();
            prop_assert_eq!(trie.tokens(), distinct.len());
        }
    }
}
