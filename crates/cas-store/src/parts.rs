//! Many small things done by several threads, each a part of them.

/// More threads than this only wait for the same directories.
const MOST_THREADS: usize = 4;

/// Does `work` on all items and returns what it made of each part, in their order.
///
/// Parts are of neighbours and of like size, one for each processor, and none is smaller than `least`: below that a thread costs more than it saves.
/// A panic of `work` goes on in the caller.
pub fn in_parts<T: Send, R: Send>(
    mut items: Vec<T>,
    least: usize,
    work: impl Fn(Vec<T>) -> R + Sync,
) -> Vec<R> {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
    let threads = processors.min(items.len() / least.max(1)).max(1);
    let size = items.len().div_ceil(threads);
    let mut parts = Vec::with_capacity(threads);
    while items.len() > size {
        parts.push(items.split_off((items.len() - 1) / size * size));
    }
    std::thread::scope(|scope| {
        let work = &work;
        // The last was split off first.
        let others: Vec<_> = parts
            .into_iter()
            .rev()
            .map(|part| scope.spawn(move || work(part)))
            .collect();
        let mut answers = vec![work(items)];
        for other in others {
            match other.join() {
                Ok(answer) => answers.push(answer),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_all_there_is_in_its_order() {
        for count in [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 1001] {
            let parts = in_parts((0..count).collect(), 8, |part| part);
            assert!(parts.len() == 1 || parts[0].len() >= 8, "{count}");
            let all: Vec<i32> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_comes_out() {
        let result = std::panic::catch_unwind(|| {
            in_parts((0..1000).collect::<Vec<i32>>(), 1, |part| {
                assert!(!part.contains(&999), "the last one");
            })
        });
        assert!(result.is_err());
    }
}
