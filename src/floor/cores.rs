//! Work on slices, spread over all cores that this process may use.

/// Calls `work` for consecutive parts of `items` on threads of their own, with the index of each part's first item, and returns its
/// answers in order. No part has fewer than `least` items unless there are no more: fewer are not worth a thread. A panic goes on in the
/// caller.
pub(crate) fn by_parts<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    work: impl Fn(usize, &[T]) -> R + Sync,
) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(items.len() / least.max(1)).max(1);
    if threads == 1 {
        return vec![work(0, items)];
    }
    let part = items.len().div_ceil(threads);
    let work = &work;
    std::thread::scope(|scope| {
        let parts = items.chunks(part).enumerate();
        let running: Vec<_> =
            parts.map(|(number, items)| scope.spawn(move || work(number * part, items))).collect();
        let joined = running.into_iter().map(|thread| thread.join());
        joined.map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_consecutive_and_know_where_they_begin() {
        for (count, least) in [(0, 4), (1, 4), (3, 4), (9, 4), (1000, 7), (5, 0)] {
            let items: Vec<usize> = (0..count).collect();
            let parts = by_parts(&items, least, |first, items| (first, items.to_vec()));
            assert!(parts.iter().all(|(first, items)| items.first().is_none_or(|item| item == first)));
            let all: Vec<usize> = parts.into_iter().flat_map(|(_, items)| items).collect();
            assert_eq!(all, items, "{count} items, at least {least} in a part");
        }
    }
}
