//! Whole-number arithmetic in architecture documents: `4*width/16`, `11 + blocks`, and keys such as `model.{11 + blocks}`.
//!
//! `+ - * /`, parentheses, numbers and names. A division must come out exactly. Nothing overflows: that is an error.

use std::collections::BTreeSet;

/// Names to values.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<i64>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Number(i64),
    Name(String),
    Operator(char),
}

/// A parsed expression, operands before operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    text: String,
    postfix: Vec<Item>,
}

impl Expression {
    /// Parses `text`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // Dijkstra's shunting yard: no recursion, so no nesting is too deep.
        let wrong = |problem: &str| format!("`{text}`: {problem}");
        let mut postfix = Vec::new();
        let mut waiting: Vec<char> = Vec::new();
        let mut operand_expected = true;
        let mut rest = text.trim_start();
        while let Some(c) = rest.chars().next() {
            let length = match c {
                '0'..='9' => rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()),
                'a'..='z' | 'A'..='Z' | '_' => {
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())
                }
                _ => c.len_utf8(),
            };
            let (word, after) = rest.split_at(length);
            match c {
                '0'..='9' | 'a'..='z' | 'A'..='Z' | '_' => {
                    if !operand_expected {
                        return Err(wrong(&format!("an operator is missing before `{word}`")));
                    }
                    postfix.push(if c.is_ascii_digit() {
                        Item::Number(word.parse().map_err(|_| wrong(&format!("`{word}` is too large")))?)
                    } else {
                        Item::Name(word.to_owned())
                    });
                    operand_expected = false;
                }
                '(' if operand_expected => waiting.push('('),
                ')' if !operand_expected => loop {
                    match waiting.pop() {
                        Some('(') => break,
                        Some(operator) => postfix.push(Item::Operator(operator)),
                        None => return Err(wrong("a parenthesis is closed that was not opened")),
                    }
                },
                '+' | '-' | '*' | '/' if !operand_expected => {
                    while let Some(&top) = waiting.last() {
                        if top == '(' || rank(top) < rank(c) {
                            break;
                        }
                        waiting.pop();
                        postfix.push(Item::Operator(top));
                    }
                    waiting.push(c);
                    operand_expected = true;
                }
                _ => return Err(wrong(&format!("`{c}` does not belong here"))),
            }
            rest = after.trim_start();
        }
        if operand_expected {
            return Err(wrong("a number or name is missing at the end"));
        }
        while let Some(operator) = waiting.pop() {
            if operator == '(' {
                return Err(wrong("a parenthesis is not closed"));
            }
            postfix.push(Item::Operator(operator));
        }
        Ok(Self { text: text.to_owned(), postfix })
    }

    /// Adds the names it uses.
    pub(crate) fn names_into(&self, names: &mut BTreeSet<String>) {
        names.extend(self.postfix.iter().filter_map(|item| match item {
            Item::Name(name) => Some(name.clone()),
            _ => None,
        }));
    }

    /// Its value.
    pub(crate) fn evaluate(&self, lookup: Lookup<'_>) -> Result<i64, String> {
        let malformed = || format!("`{}` is malformed", self.text);
        let mut stack: Vec<i64> = Vec::new();
        for item in &self.postfix {
            let value = match item {
                Item::Number(n) => *n,
                Item::Name(name) => lookup(name).ok_or_else(|| format!("`{}`: `{name}` is not known", self.text))?,
                Item::Operator(operator) => {
                    let (Some(b), Some(a)) = (stack.pop(), stack.pop()) else { return Err(malformed()) };
                    let result = match operator {
                        '+' => a.checked_add(b),
                        '-' => a.checked_sub(b),
                        '*' => a.checked_mul(b),
                        _ if b == 0 => return Err(format!("`{}` divides by zero", self.text)),
                        _ if a.checked_rem(b) != Some(0) => {
                            return Err(format!("`{}`: {a} is not a multiple of {b}", self.text));
                        }
                        _ => a.checked_div(b),
                    };
                    result.ok_or_else(|| format!("`{}` is too large", self.text))?
                }
            };
            stack.push(value);
        }
        stack.pop().ok_or_else(malformed)
    }
}

fn rank(operator: char) -> u8 {
    if matches!(operator, '*' | '/') { 2 } else { 1 }
}

/// Text with expressions in braces, such as `model.{11 + blocks}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<(String, Option<Expression>)>,
}

impl Template {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (inner, tail) = after.split_once('}').ok_or_else(|| format!("`{text}`: a brace is not closed"))?;
            pieces.push((literal.to_owned(), Some(Expression::parse(inner)?)));
            rest = tail;
        }
        if rest.contains('}') {
            return Err(format!("`{text}`: a brace is closed that was not opened"));
        }
        pieces.push((rest.to_owned(), None));
        Ok(Self { pieces })
    }

    /// Adds the names it uses.
    pub(crate) fn names_into(&self, names: &mut BTreeSet<String>) {
        for (_, expression) in &self.pieces {
            if let Some(e) = expression {
                e.names_into(names);
            }
        }
    }

    /// The text with every expression replaced by its value.
    pub(crate) fn fill(&self, lookup: Lookup<'_>) -> Result<String, String> {
        let mut text = String::new();
        for (literal, expression) in &self.pieces {
            text.push_str(literal);
            if let Some(e) = expression {
                text.push_str(&e.evaluate(lookup)?.to_string());
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<i64, String> {
        let lookup = |name: &str| (name == "width").then_some(64).or((name == "n").then_some(9));
        Expression::parse(text)?.evaluate(&lookup)
    }

    #[test]
    fn arithmetic() {
        assert_eq!(value("4*width/16"), Ok(16));
        assert_eq!(value("1 + 2*3 - 4"), Ok(3));
        assert_eq!(value("(1 + 2)*3"), Ok(9));
        assert_eq!(value("20 - 5 - 5"), Ok(10));
        assert_eq!(value("11+n"), Ok(20));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("", "missing at the end"),
            ("1 +", "missing at the end"),
            ("1 2", "operator is missing"),
            ("(1", "not closed"),
            ("1)", "not opened"),
            ("-1", "does not belong"),
            ("1 % 2", "does not belong"),
            ("width/48", "64 is not a multiple of 48"),
            ("1/0", "divides by zero"),
            ("depth", "not known"),
            ("99999999999999999999", "too large"),
            ("9223372036854775807*2", "too large"),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(value(&"(".repeat(100_000)).is_err());
    }

    #[test]
    fn keys_are_filled_in() {
        let t = Template::parse("model.{11 + n}.a.{n}").unwrap();
        assert_eq!(t.fill(&|_| Some(2)), Ok("model.13.a.2".to_owned()));
        assert!(Template::parse("model.{n").is_err());
        assert!(Template::parse("model.n}").is_err());
    }
}
