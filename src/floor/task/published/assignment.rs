//! The assignment problem: the best one-to-one matching of rows and columns.

/// Pairs (row, column) with the greatest total score, by row; the smaller side is matched completely.
///
/// The Hungarian method with potentials (Kuhn 1955, in the form of Jonker and Volgenant 1987): exact, cubic time.
pub(super) fn best_matching(scores: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let (rows, columns) = (scores.len(), scores.first().map_or(0, Vec::len));
    if rows > columns {
        let turned: Vec<Vec<f64>> =
            (0..columns).map(|column| scores.iter().map(|row| row[column]).collect()).collect();
        let mut pairs: Vec<_> =
            best_matching(&turned).into_iter().map(|(column, row)| (row, column)).collect();
        pairs.sort_unstable();
        return pairs;
    }
    let mut search = Search::new(scores, columns);
    for row in 0..rows {
        search.add(row);
    }
    let matched = search.row_of.iter().enumerate();
    let mut pairs: Vec<_> = matched.filter_map(|(column, row)| Some(((*row)?, column))).collect();
    pairs.sort_unstable();
    pairs
}

struct Search<'a> {
    scores: &'a [Vec<f64>],
    row_potential: Vec<f64>,
    column_potential: Vec<f64>,
    /// The row matched to each column.
    row_of: Vec<Option<usize>>,
}

impl<'a> Search<'a> {
    fn new(scores: &'a [Vec<f64>], columns: usize) -> Self {
        Self {
            scores,
            row_potential: vec![0.0; scores.len()],
            column_potential: vec![0.0; columns],
            row_of: vec![None; columns],
        }
    }

    /// Matches one more row along the cheapest alternating path.
    fn add(&mut self, row: usize) {
        let columns = self.row_of.len();
        let mut distance = vec![f64::INFINITY; columns];
        let mut from = vec![None; columns];
        let mut visited = vec![false; columns];
        let (mut at_row, mut at_column) = (row, None);
        let end = loop {
            let mut nearest: Option<usize> = None;
            for column in 0..columns {
                if visited[column] {
                    continue;
                }
                let cost = -self.scores[at_row][column];
                let reduced = cost - self.row_potential[at_row] - self.column_potential[column];
                if reduced < distance[column] {
                    distance[column] = reduced;
                    from[column] = at_column;
                }
                if nearest.is_none_or(|best| distance[column] < distance[best]) {
                    nearest = Some(column);
                }
            }
            // There are at least as many columns as rows, so a free one is always left.
            let Some(column) = nearest else { return };
            self.shift(row, distance[column], &visited, &mut distance);
            visited[column] = true;
            match self.row_of[column] {
                None => break column,
                Some(next) => (at_row, at_column) = (next, Some(column)),
            }
        };
        self.augment(row, end, &from);
    }

    /// Moves the potentials by the distance to the nearest column, which becomes 0.
    fn shift(&mut self, row: usize, by: f64, visited: &[bool], distance: &mut [f64]) {
        self.row_potential[row] += by;
        for (column, visited) in visited.iter().enumerate() {
            if *visited {
                self.column_potential[column] -= by;
                if let Some(matched) = self.row_of[column] {
                    self.row_potential[matched] += by;
                }
            } else {
                distance[column] -= by;
            }
        }
    }

    /// Flips the matching along the path that ends in a free column.
    fn augment(&mut self, row: usize, end: usize, from: &[Option<usize>]) {
        let mut column = end;
        while let Some(previous) = from[column] {
            self.row_of[column] = self.row_of[previous];
            column = previous;
        }
        self.row_of[column] = Some(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_total_wins_over_the_best_first_pair() {
        assert_eq!(best_matching(&[vec![0.9, 0.8], vec![0.8, 0.1]]), [(0, 1), (1, 0)]);
        assert_eq!(best_matching(&[vec![0.1], vec![0.9], vec![0.5]]), [(1, 0)]);
        assert_eq!(best_matching(&[]), []);
    }

    #[test]
    fn no_permutation_beats_the_matching() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 33) % 5) as f64 / 4.0
        };
        for size in 1..=6 {
            let scores: Vec<Vec<f64>> = (0..size).map(|_| (0..size).map(|_| next()).collect()).collect();
            let total: f64 = best_matching(&scores).iter().map(|(row, column)| scores[*row][*column]).sum();
            assert_eq!(total, best_of_all(&scores, &mut (0..size).collect(), 0));
        }
    }

    fn best_of_all(scores: &[Vec<f64>], order: &mut Vec<usize>, at: usize) -> f64 {
        if at == order.len() {
            return order.iter().enumerate().map(|(row, column)| scores[row][*column]).sum();
        }
        let mut best = f64::MIN;
        for other in at..order.len() {
            order.swap(at, other);
            best = best.max(best_of_all(scores, order, at + 1));
            order.swap(at, other);
        }
        best
    }
}
