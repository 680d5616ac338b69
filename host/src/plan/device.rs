//! What `--device` asks for, and the card a run uses.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// The processor.
    Cpu,
    /// A card where it can be used, else the processor, and that is said.
    #[default]
    Auto,
    /// This card, or the run is refused.
    Cuda(u32),
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            ("auto", _) => Ok(Self::Auto),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(number)) => match number.parse() {
                Ok(number) if number < 1024 => Ok(Self::Cuda(number)),
                _ => Err(format!("`{number}` is no number of a card, such as cuda:0")),
            },
            _ => Err("expected cpu, auto, cuda or cuda:N".to_owned()),
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// The card a run uses, and for which nodes; all others run on the processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuda {
    /// Its number among the cards the user may see.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: String,
    /// Newest CUDA the driver speaks.
    pub driver: String,
    /// Ids of the nodes, sorted.
    pub nodes: Vec<String>,
}

impl Cuda {
    /// As `--device` and run.json name it.
    pub fn device(&self) -> String {
        format!("cuda:{}", self.number)
    }

    /// What of it decides the results: kind of card and nodes, and not which of several alike.
    pub fn identity(&self) -> String {
        format!("cuda {} ({}): {}", self.capability, self.name, self.nodes.join(" "))
    }

    /// What a worker is told of the cards: this one alone, whatever of them the user may see.
    pub fn visible(&self, seen: Option<&str>) -> String {
        let listed = seen.and_then(|seen| seen.split(',').nth(self.number as usize));
        listed.map_or_else(|| self.number.to_string(), |word| word.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written() {
        for (text, asked) in
            [("cpu", Asked::Cpu), ("auto", Asked::Auto), ("cuda:0", Asked::Cuda(0)), ("cuda:12", Asked::Cuda(12))]
        {
            assert_eq!(text.parse(), Ok(asked));
            assert_eq!(asked.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Asked::Cuda(0)));
        for bad in ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999", "CPU", ""] {
            assert!(bad.parse::<Asked>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_worker_sees_one_card() {
        let card = |number| Cuda {
            number,
            name: "X".into(),
            capability: "9.0".into(),
            driver: "13.0".into(),
            nodes: vec!["a".into()],
        };
        assert_eq!(card(1).visible(None), "1");
        assert_eq!(card(1).visible(Some("4, 6")), "6");
        assert_eq!(card(0).visible(Some("GPU-8f1c")), "GPU-8f1c");
        // Two cards of a kind give the same results, another kind or other nodes do not.
        assert_eq!(card(0).identity(), card(1).identity());
        assert_ne!(card(0).identity(), Cuda { name: "Y".into(), ..card(0) }.identity());
        assert_ne!(card(0).identity(), Cuda { nodes: vec![], ..card(0) }.identity());
    }
}
