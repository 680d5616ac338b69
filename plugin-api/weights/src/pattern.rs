//! Patterns for keys, with which an architecture looks for numbers and for the presence of a layer:
//! `model.{}.block.*` is `model.`, a number, `.block.`, anything.

/// A pattern: at most one `{}` (a decimal number) and one `*` at the end (anything).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    before: String,
    /// What follows the number; `None` if there is no number.
    after: Option<String>,
    open_end: bool,
}

impl Pattern {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (body, open_end) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let (before, after) = match body.split_once("{}") {
            Some((before, after)) => (before, Some(after)),
            None => (body, None),
        };
        let rest = [before, after.unwrap_or_default()];
        if rest.iter().any(|s| s.contains(['*', '{', '}'])) {
            return Err(format!("`{text}`: a pattern has at most one `{{}}`, and `*` only at its end"));
        }
        if after.is_some_and(|a| a.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(format!("`{text}`: a digit after `{{}}` leaves open where the number ends"));
        }
        Ok(Self { before: before.to_owned(), after: after.map(str::to_owned), open_end })
    }

    /// Whether it has a `{}`.
    pub(crate) fn has_number(&self) -> bool {
        self.after.is_some()
    }

    /// Whether `key` matches; the number at `{}` (0 where the pattern has none).
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        let rest = key.strip_prefix(&self.before)?;
        let Some(after) = &self.after else {
            return (self.open_end || rest.is_empty()).then_some(0);
        };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(end);
        let tail = tail.strip_prefix(after.as_str())?;
        if !(self.open_end || tail.is_empty()) || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let p = Pattern::parse("model.{}.block.*").unwrap();
        assert_eq!(p.number("model.18.block.5.weight"), Some(18));
        assert_eq!(p.number("model.018.block.5.weight"), None);
        assert_eq!(p.number("model.18.cbam"), None);
        assert_eq!(p.number("model.99999999999999999999.block.1"), None);
        let p = Pattern::parse("model.{}.weight").unwrap();
        assert_eq!(p.number("model.7.weight"), Some(7));
        assert_eq!(p.number("model.7.weight.x"), None);
        let p = Pattern::parse("down4.*").unwrap();
        assert_eq!(p.number("down4.x"), Some(0));
        assert_eq!(p.number("down3.x"), None);
        assert!(Pattern::parse("a.{}.{}").is_err());
        assert!(Pattern::parse("a*b").is_err());
        assert!(Pattern::parse("a{}1").is_err());
    }
}
