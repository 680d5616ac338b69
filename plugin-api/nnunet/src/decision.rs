//! [`Decision`]: how logits become labels.

use gantry_volume::export;
use gantry_weights::nnunet::{Dataset, Labels, Region};

use crate::error::{Error, Result};

/// How the heads of a network decide on a voxel's label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The head with the largest logit, of equal ones the first.
    Largest,
    /// Each head by itself, in order; where a later one agrees it overwrites. The values of the heads.
    Regions(Vec<u8>),
}

impl Decision {
    /// That of a data set.
    ///
    /// # Errors
    /// If a label does not fit into 8 bits.
    pub fn of(dataset: &Dataset) -> Result<Self> {
        let large = |value: &dyn std::fmt::Display| Error::Model(format!("label {value}; labels up to 255 expected"));
        match &dataset.labels {
            Labels::Classes(names) if names.len() > 256 => Err(large(&(names.len() - 1))),
            Labels::Classes(_) => Ok(Self::Largest),
            Labels::Regions(regions) => {
                let value = |region: &Region| u8::try_from(region.value).map_err(|_| large(&region.value));
                Ok(Self::Regions(regions.iter().map(value).collect::<Result<_>>()?))
            }
        }
    }

    /// As the exports of the volume crate take it.
    pub fn exported(&self) -> export::Decision<'_> {
        match self {
            Self::Largest => export::Decision::Greatest,
            Self::Regions(values) => export::Decision::Regions(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn decided(decision: &Decision, heads: &[&[f32]]) -> Vec<u8> {
        let halves: Vec<Vec<f16>> = heads.iter().map(|row| row.iter().map(|&x| f16::from_f32(x)).collect()).collect();
        let mut labels = vec![9; heads[0].len()];
        decision.exported().row(heads.len(), |head| &halves[head], &mut labels);
        labels
    }

    #[test]
    fn of_equal_logits_the_first_wins() {
        let heads: [&[f32]; 3] = [&[1.0, 0.0, -1.0, 0.0], &[1.0, 2.0, -2.0, -0.0], &[0.5, 2.0, -1.0, 0.0]];
        assert_eq!(decided(&Decision::Largest, &heads), [0, 1, 0, 0]);
    }

    #[test]
    fn later_regions_overwrite_and_a_logit_of_nought_is_outside() {
        let heads: [&[f32]; 2] = [&[1.0, 1.0, 0.0, -1.0], &[-1.0, 0.1, 0.0, 3.0]];
        assert_eq!(decided(&Decision::Regions(vec![4, 2]), &heads), [4, 2, 0, 2]);
    }
}
