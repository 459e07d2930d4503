//! Packs the windows of several jobs into passes under one token budget.

use super::window::{Pass, PlannedRow};

/// Covers rows with passes of at most `budget` tokens; a longer row is a pass of its own. Each pass takes the longest
/// remaining rows that fit, ties by index, so equal windows make equal passes.
pub fn plan_passes(lengths: &[usize], budget: usize) -> Vec<Pass> {
    let mut pack = PackWindows::new(1);
    pack.open(0, lengths);
    std::iter::from_fn(|| pack.next_pass(&[0], budget)?.pop()).map(|(_, pass)| pass).collect()
}

/// The open windows of a pack's members. A pass is filled from one member's window first, then from the others', so a
/// member whose window fills whole passes gets the same passes as alone.
#[derive(Debug, Clone, Default)]
pub struct PackWindows {
    /// Each member's rows not yet in a pass, longest first; none if the member has no window.
    members: Vec<Option<Vec<PlannedRow>>>,
}

impl PackWindows {
    /// A pack of this many members, without windows.
    pub fn new(members: usize) -> Self {
        Self { members: vec![None; members] }
    }

    /// Opens a member's next window, given its row lengths in tokens. A member joins with its first window.
    pub fn open(&mut self, member: usize, lengths: &[usize]) {
        let mut rows: Vec<PlannedRow> =
            lengths.iter().enumerate().map(|(index, &tokens)| PlannedRow { index, tokens }).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.tokens), row.index));
        if let Some(window) = self.members.get_mut(member) {
            *window = Some(rows);
        }
    }

    /// Removes a member and the rest of its window.
    pub fn leave(&mut self, member: usize) {
        if let Some(window) = self.members.get_mut(member) {
            *window = None;
        }
    }

    /// Whether every row of a member's window is in a pass.
    pub fn is_covered(&self, member: usize) -> bool {
        self.members.get(member).is_some_and(|window| window.as_ref().is_none_or(Vec::is_empty))
    }

    /// Tokens left in the window of the first of `order` that has rows left.
    pub fn tokens_left(&self, order: &[usize]) -> usize {
        let rows = order.iter().filter_map(|member| self.members.get(*member)?.as_ref());
        let first = rows.into_iter().find(|rows| !rows.is_empty());
        first.map_or(0, |rows| rows.iter().map(|row| row.tokens).sum())
    }

    /// The next pass, grouped by member: the first of `order` with rows left fills it, the others use the remaining
    /// room. A row longer than the budget is a pass of its own. None: no rows are left.
    pub fn next_pass(&mut self, order: &[usize], budget: usize) -> Option<Vec<(usize, Pass)>> {
        let mut shares = Vec::new();
        let mut room = None;
        for &member in order {
            let Some(Some(rows)) = self.members.get_mut(member) else { continue };
            let taken = take(rows, room.unwrap_or(budget), room.is_none());
            if !taken.is_empty() {
                let pass = Pass { rows: taken };
                room = Some(room.unwrap_or(budget).saturating_sub(pass.tokens()));
                shares.push((member, pass));
            }
        }
        (!shares.is_empty()).then_some(shares)
    }
}

/// Takes the longest rows that fit; the very first of any length, if `first`.
fn take(rows: &mut Vec<PlannedRow>, mut room: usize, first: bool) -> Vec<PlannedRow> {
    let mut taken = Vec::new();
    rows.retain(|row| {
        let fits = row.tokens <= room || (first && taken.is_empty());
        if fits {
            room = room.saturating_sub(row.tokens);
            taken.push(*row);
        }
        !fits
    });
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs members through their windows; finished ones leave. Returns every pass.
    fn run(windows: &[Vec<Vec<usize>>], budget: usize) -> Vec<Vec<(usize, Pass)>> {
        let mut pack = PackWindows::new(windows.len());
        let mut next = vec![1; windows.len()];
        for (member, member_windows) in windows.iter().enumerate() {
            pack.open(member, &member_windows[0]);
        }
        let order: Vec<usize> = (0..windows.len()).collect();
        let mut passes = Vec::new();
        while let Some(pass) = pack.next_pass(&order, budget) {
            for &(member, _) in &pass {
                if !pack.is_covered(member) {
                    continue;
                }
                match windows[member].get(next[member]) {
                    Some(lengths) => pack.open(member, lengths),
                    None => pack.leave(member),
                }
                next[member] += 1;
            }
            passes.push(pass);
        }
        passes
    }

    fn windows() -> impl Strategy<Value = Vec<Vec<Vec<usize>>>> {
        let window = prop::collection::vec(1usize..200, 1..12);
        prop::collection::vec(prop::collection::vec(window, 1..4), 1..6)
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_pass_and_no_pass_is_over_budget(
            lengths in prop::collection::vec(1usize..300, 0..60),
            budget in 1usize..600,
        ) {
            let passes = plan_passes(&lengths, budget);
            let mut seen: Vec<usize> = passes.iter().flat_map(|p| p.rows.iter().map(|r| r.index)).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
            for pass in &passes {
                prop_assert!(pass.tokens() <= budget || pass.rows.len() == 1);
                prop_assert!(pass.rows.windows(2).all(|pair| pair[0].tokens >= pair[1].tokens));
            }
        }

        #[test]
        fn every_row_of_every_window_is_in_one_pass_within_the_budget(windows in windows(), budget in 1usize..400) {
            let passes = run(&windows, budget);
            for pass in &passes {
                let tokens: usize = pass.iter().map(|(_, share)| share.tokens()).sum();
                let rows: usize = pass.iter().map(|(_, share)| share.rows.len()).sum();
                prop_assert!(tokens <= budget || rows == 1, "{tokens} tokens in {rows} rows");
                let mut members: Vec<usize> = pass.iter().map(|(member, _)| *member).collect();
                members.dedup();
                prop_assert_eq!(members.len(), pass.len());
            }
            for (member, member_windows) in windows.iter().enumerate() {
                let shares = passes.iter().flatten().filter(|(of, _)| *of == member);
                let mut seen: Vec<usize> = shares.flat_map(|(_, share)| share.rows.iter().map(|row| row.tokens)).collect();
                let mut all: Vec<usize> = member_windows.iter().flatten().copied().collect();
                seen.sort_unstable();
                all.sort_unstable();
                prop_assert_eq!(seen, all);
            }
        }

        #[test]
        fn whoever_is_first_makes_the_passes_that_it_would_make_alone(
            lengths in prop::collection::vec(1usize..200, 1..12),
            others in windows(),
            budget in 1usize..400,
        ) {
            let mut pack = PackWindows::new(others.len() + 1);
            pack.open(0, &lengths);
            others.iter().enumerate().for_each(|(n, windows)| pack.open(n + 1, &windows[0]));
            let order: Vec<usize> = (0..=others.len()).collect();
            for alone in plan_passes(&lengths, budget) {
                let pass = pack.next_pass(&order, budget).unwrap();
                prop_assert_eq!(&pass[0], &(0, alone));
            }
            prop_assert!(pack.is_covered(0));
        }
    }

    #[test]
    fn a_member_that_left_gives_its_room_to_the_others_and_may_come_back() {
        let mut pack = PackWindows::new(2);
        pack.open(0, &[40, 40]);
        pack.open(1, &[30]);
        pack.leave(0);
        let pass = pack.next_pass(&[0, 1], 100).unwrap();
        assert_eq!(pass.len(), 1);
        assert_eq!(pass[0].0, 1);
        pack.open(0, &[10]);
        assert_eq!(pack.next_pass(&[1, 0], 100).unwrap()[0].0, 0);
        assert!(pack.next_pass(&[0, 1], 100).is_none());
    }
}
