//! [`Figures`]: what the self-audit says of itself in run.json: counts, and no value.

use serde::{Deserialize, Serialize};

/// What was searched, and for how many values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Values searched wherever they may stand.
    pub searched: usize,
    /// Values searched as whole tokens.
    pub as_tokens: usize,
    /// Values too short to be searched: compared with what left in their place.
    pub by_comparison: usize,
    /// Values taken away that are no sign of anybody: they also stand where a rule keeps them, or name nobody.
    pub exempt: usize,
    /// Files read again.
    pub files: usize,
    /// Bytes searched, pixels not among them.
    pub bytes: u64,
    /// What was found.
    pub findings: usize,
}

impl Figures {
    /// Adds counts.
    pub fn add(&mut self, other: &Figures) {
        self.searched += other.searched;
        self.as_tokens += other.as_tokens;
        self.by_comparison += other.by_comparison;
        self.exempt += other.exempt;
        self.files += other.files;
        self.bytes += other.bytes;
        self.findings += other.findings;
    }
}
