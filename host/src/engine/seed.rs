//! Seeds: a function of the run's seed, the case and the node, so that results depend on nothing else.

use sha2::{Digest, Sha256};

/// Two words for one node of one case.
pub fn of(run_seed: u64, case: &str, node: &str) -> [u64; 2] {
    let mut hash = Sha256::new();
    hash.update(b"gantry.seed/1");
    hash.update(run_seed.to_le_bytes());
    for part in [case, node] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| digest[at + i]));
    [word(0), word(8)]
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_part_matters() {
        let base = super::of(1, "c", "n");
        assert_eq!(base, super::of(1, "c", "n"));
        for other in [super::of(2, "c", "n"), super::of(1, "d", "n"), super::of(1, "c", "m"), super::of(1, "cn", "")] {
            assert_ne!(base, other);
        }
    }
}
