//! Work on many independent pieces with a given number of threads. Which thread does a piece never changes its result.

use std::sync::Mutex;

/// The work was stopped from outside; what it wrote is incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Told how many pieces are done before each piece begins; returns whether to go on.
pub type Watch<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// Calls `work(index, piece, scratch)` once for every piece, on at most `threads` threads. Each thread has its own
/// `scratch`.
///
/// # Errors
/// [`Stopped`] once `watch` says so; pieces already begun are finished.
pub fn each<T: Send, S>(
    pieces: Vec<T>,
    threads: usize,
    watch: Watch<'_>,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(usize, T, &mut S) + Sync,
) -> Result<(), Stopped> {
    let threads = threads.clamp(1, pieces.len().max(1));
    // The queue's lock makes the counts given to `watch` rise.
    let queue = Mutex::new((pieces.into_iter().enumerate(), true));
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (pieces, go_on) = &mut *queue;
        let (index, piece) = pieces.next()?;
        *go_on = *go_on && watch(index);
        go_on.then_some((index, piece))
    };
    let run = || {
        let mut scratch = scratch();
        while let Some((index, piece)) = next() {
            work(index, piece, &mut scratch);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    let (_, went_on) = queue.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if went_on { Ok(()) } else { Err(Stopped) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_piece_is_worked_on_once() {
        for threads in [0, 1, 3, 50] {
            let mut done = [0_u8; 40];
            each(done.iter_mut().collect(), threads, &|_| true, || (), |i, piece, ()| *piece += 1 + i as u8).unwrap();
            assert!(done.iter().enumerate().all(|(i, &d)| usize::from(d) == i + 1));
        }
        each(Vec::<u8>::new(), 4, &|_| true, || (), |_, _, ()| unreachable!()).unwrap();
    }

    #[test]
    fn stopping_leaves_the_rest() {
        let count = AtomicUsize::new(0);
        let stopped = each(
            vec![(); 40],
            2,
            &|done| done < 5,
            || (),
            |_, (), ()| {
                count.fetch_add(1, Ordering::Relaxed);
            },
        );
        assert_eq!((stopped, count.into_inner()), (Err(Stopped), 5));
    }
}
