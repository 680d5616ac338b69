//! The threads a stage may keep busy: a pool of exactly the budget the host grants.

use std::sync::{Arc, Mutex, PoisonError};

/// Runs work on a thread pool of the size asked for, kept between calls of the same budget.
///
/// A plugin library has its own rayon; its global pool would take every core, whatever the host granted. Threads are
/// idle when [`Workers::run`] returns.
#[derive(Default)]
pub struct Workers {
    pool: Mutex<Option<Arc<rayon::ThreadPool>>>,
}

impl Workers {
    /// Runs `work` on `threads` threads (at least one); everything in this crate spreads over them.
    ///
    /// # Errors
    /// If the operating system refuses the threads.
    pub fn run<T: Send>(
        &self,
        threads: usize,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, rayon::ThreadPoolBuildError> {
        Ok(self.pool(threads.max(1))?.install(work))
    }

    fn pool(&self, threads: usize) -> Result<Arc<rayon::ThreadPool>, rayon::ThreadPoolBuildError> {
        let mut kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = kept.as_ref().filter(|pool| pool.current_num_threads() == threads) {
            return Ok(Arc::clone(pool));
        }
        let build = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("neural-{i}"));
        let pool = Arc::new(build.build()?);
        *kept = Some(Arc::clone(&pool));
        Ok(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn work_runs_on_no_more_threads_than_granted() -> Result<(), rayon::ThreadPoolBuildError> {
        let workers = Workers::default();
        for threads in [1, 3, 3, 2, 0] {
            let seen = workers.run(threads, || {
                assert_eq!(rayon::current_num_threads(), threads.max(1));
                (0..1000).into_par_iter().map(|_| std::thread::current().id()).collect::<HashSet<_>>()
            })?;
            assert!(!seen.is_empty() && seen.len() <= threads.max(1));
        }
        Ok(())
    }
}
