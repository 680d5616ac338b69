//! [`ParamSpec`]: a parameter of a stage, and the check of a value against it.
//!
//! The one place where defaults live is the manifest; [`ParamSpec::check`] turns what a pipeline says into the JSON value
//! that crosses the boundary, floats always with a point.

use serde_json::Value as Json;

use crate::diagnostic::{At, Diagnostic, did_you_mean};
use crate::pipeline::spanned::{Reader, Text, Toml, TomlTable, TomlValue, strings, wrong_type};

use super::ports::refuse;

/// What a parameter is.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamKind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// One of these texts.
    Choice(Vec<String>),
    /// A list of ints, floats, bools or strings.
    List(Box<ParamKind>),
    /// The name of an installed checkpoint.
    Checkpoint,
}

impl ParamKind {
    /// What a value must be, for messages.
    pub fn expected(&self) -> String {
        match self {
            Self::Int => "a whole number".into(),
            Self::Float => "a number".into(),
            Self::Bool => "true or false".into(),
            Self::String => "a string".into(),
            Self::Choice(of) => {
                format!("one of {}", of.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", "))
            }
            Self::List(of) => format!("a list, each {}", of.expected()),
            Self::Checkpoint => "the name of a checkpoint".into(),
        }
    }

    /// As the manifest writes it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Choice(_) => "choice",
            Self::List(_) => "list",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ParamKind,
    /// Smallest value (of each element of a list).
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Whole numbers: a multiple of this.
    pub multiple_of: Option<i64>,
    /// The unit, for people.
    pub unit: Option<String>,
    /// Texts allowed in a list of strings, or for a string.
    pub choices: Vec<String>,
    /// The value where the pipeline says none; `None`: required.
    pub default: Option<Json>,
    /// Checkpoints: the architecture the card must have.
    pub architecture: Option<String>,
    /// Checkpoints: the bool parameter that permits it to be missing.
    pub optional: Option<String>,
    /// One line for people.
    pub help: Option<String>,
    /// Where the parameter's name stands.
    pub at: At,
}

/// Why a value was refused: the code of the diagnostic and the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `parameter-type`, `parameter-range` or `parameter-choice`.
    pub code: &'static str,
    /// What was expected and what was found.
    pub text: String,
    /// Where in the value.
    pub at: At,
    /// A guess at what was meant.
    pub help: Option<String>,
}

impl ParamSpec {
    pub(super) fn read(
        name: &str,
        at: &At,
        table: &TomlTable,
        stage: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let mut reader = Reader::new(table, format!("parameter `{name}` of stage `{stage}`"));
        let kind = reader.required_string("type", diagnostics);
        let of = reader.take("of").map(|e| &e.value);
        let min = reader.number("min", diagnostics);
        let max = reader.number("max", diagnostics);
        let multiple_of = reader.unsigned("multiple_of", diagnostics).and_then(|n| i64::try_from(n).ok());
        let unit = reader.string("unit", diagnostics).map(|t| t.text);
        let choices = texts(reader.strings("choices", diagnostics));
        let default = reader.take("default").map(|e| &e.value);
        let architecture = reader.string("architecture", diagnostics).map(|t| t.text);
        let optional = reader.string("optional", diagnostics).and_then(|t| match t.text.strip_prefix('$') {
            Some(param) => Some(param.to_owned()),
            None => {
                refuse(diagnostics, &t.at, "`optional` names a bool parameter: \"$parameter\"".to_owned());
                None
            }
        });
        let help = reader.string("help", diagnostics).map(|t| t.text);
        reader.finish(diagnostics);
        let kind = read_kind(&kind?, of, table, diagnostics)?;
        let mut spec = Self {
            name: name.to_owned(),
            kind,
            min,
            max,
            multiple_of,
            unit,
            choices,
            default: None,
            architecture,
            optional,
            help,
            at: at.clone(),
        };
        spec.check_keys(table, diagnostics);
        if let Some(value) = default {
            match spec.check(value) {
                Ok(json) => spec.default = Some(json),
                Err(refusal) => {
                    refuse(diagnostics, &refusal.at, format!("the default of `{name}` is not legal: {}", refusal.text))
                }
            }
        }
        Some(spec)
    }

    fn check_keys(&self, table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) {
        let element = match &self.kind {
            ParamKind::List(of) => of,
            other => other,
        };
        let numeric = matches!(element, ParamKind::Int | ParamKind::Float);
        let rules = [
            ("min", numeric, "a number"),
            ("max", numeric, "a number"),
            ("multiple_of", matches!(element, ParamKind::Int), "an int"),
            ("choices", matches!(element, ParamKind::String), "a string or a list of strings"),
            ("architecture", matches!(self.kind, ParamKind::Checkpoint), "a checkpoint"),
            ("optional", matches!(self.kind, ParamKind::Checkpoint), "a checkpoint"),
            ("of", matches!(self.kind, ParamKind::Choice(_) | ParamKind::List(_)), "a choice or a list"),
        ];
        for (key, allowed, what) in rules {
            if let (Some(entry), false) = (table.get(key), allowed) {
                refuse(diagnostics, &entry.key_at, format!("`{key}` belongs to a parameter that is {what}"));
            }
        }
        if let (Some(low), Some(high), Some(entry)) = (self.min, self.max, table.get("max"))
            && low > high
        {
            refuse(diagnostics, &entry.value.at, format!("`max = {high}` is below `min = {low}`"));
        }
        if let (Some(0), Some(entry)) = (self.multiple_of, table.get("multiple_of")) {
            refuse(diagnostics, &entry.value.at, "nothing is a multiple of 0".to_owned());
        }
    }

    /// The value as JSON, if it is legal.
    ///
    /// # Errors
    /// What was expected and found, and where.
    pub fn check(&self, value: &TomlValue) -> Result<Json, Refusal> {
        self.check_kind(&self.kind, value)
    }

    fn check_kind(&self, kind: &ParamKind, value: &TomlValue) -> Result<Json, Refusal> {
        let wrong = || Refusal {
            code: "parameter-type",
            text: format!("`{}` must be {}, but is {}", self.name, kind.expected(), value.kind()),
            at: value.at.clone(),
            help: self.help.clone(),
        };
        match (kind, &value.data) {
            (ParamKind::Int, Toml::Integer(i)) => self.check_int(*i, value).map(Json::from),
            (ParamKind::Float, Toml::Integer(_) | Toml::Float(_)) => {
                let number = value.as_number().unwrap_or(f64::NAN);
                self.check_range(number, value)?;
                serde_json::Number::from_f64(number).map(Json::Number).ok_or_else(wrong)
            }
            (ParamKind::Bool, Toml::Boolean(b)) => Ok(Json::Bool(*b)),
            (ParamKind::String, Toml::String(s)) => self.check_choice(s, &self.choices, value),
            (ParamKind::Choice(of), Toml::String(s)) => self.check_choice(s, of, value),
            (ParamKind::Checkpoint, Toml::String(s)) if !s.is_empty() => Ok(Json::String(s.clone())),
            (ParamKind::List(of), Toml::Array(items)) => {
                items.iter().map(|item| self.check_kind(of, item)).collect::<Result<Vec<_>, _>>().map(Json::Array)
            }
            _ => Err(wrong()),
        }
    }

    fn check_int(&self, i: i64, value: &TomlValue) -> Result<i64, Refusal> {
        self.check_range(i as f64, value)?;
        match self.multiple_of {
            Some(n) if n != 0 && i % n != 0 => {
                Err(self.out_of_range(format!("`{}` must be a multiple of {n}, but is {i}", self.name), value))
            }
            _ => Ok(i),
        }
    }

    fn check_range(&self, number: f64, value: &TomlValue) -> Result<(), Refusal> {
        let low = self.min.is_none_or(|min| number >= min);
        let high = self.max.is_none_or(|max| number <= max);
        if low && high && number.is_finite() {
            return Ok(());
        }
        Err(self.out_of_range(format!("`{}` must be {}, but is {number}", self.name, self.range()), value))
    }

    fn out_of_range(&self, text: String, value: &TomlValue) -> Refusal {
        Refusal { code: "parameter-range", text, at: value.at.clone(), help: self.help.clone() }
    }

    /// The range in words, with the unit.
    pub fn range(&self) -> String {
        let unit = self.unit.as_deref().map(|u| format!(" {u}")).unwrap_or_default();
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("between {min} and {max}{unit}"),
            (Some(min), None) => format!("at least {min}{unit}"),
            (None, Some(max)) => format!("at most {max}{unit}"),
            (None, None) => "a finite number".to_owned(),
        }
    }

    fn check_choice(&self, text: &str, of: &[String], value: &TomlValue) -> Result<Json, Refusal> {
        if of.is_empty() || of.iter().any(|c| c == text) {
            return Ok(Json::String(text.to_owned()));
        }
        Err(Refusal {
            code: "parameter-choice",
            text: format!("`{}` cannot be \"{text}\"", self.name),
            at: value.at.clone(),
            help: did_you_mean(text, "choices", of.iter().map(String::as_str)),
        })
    }
}

fn texts(list: Option<Vec<Text>>) -> Vec<String> {
    list.unwrap_or_default().into_iter().map(|t| t.text).collect()
}

fn read_kind(
    text: &Text,
    of: Option<&TomlValue>,
    table: &TomlTable,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ParamKind> {
    let kind = match text.text.as_str() {
        "int" => ParamKind::Int,
        "float" => ParamKind::Float,
        "bool" => ParamKind::Bool,
        "string" => ParamKind::String,
        "checkpoint" => ParamKind::Checkpoint,
        "choice" => {
            let of = of.and_then(|v| strings(v, "of", diagnostics)).unwrap_or_default();
            if of.is_empty() {
                refuse(diagnostics, &table.at, "a choice needs `of = [\"...\", ...]`".to_owned());
                return None;
            }
            ParamKind::Choice(texts(Some(of)))
        }
        "list" => {
            let element = match of.map(|v| (v.as_str(), v)) {
                Some((Some("int"), _)) => ParamKind::Int,
                Some((Some("float"), _)) => ParamKind::Float,
                Some((Some("bool"), _)) => ParamKind::Bool,
                Some((Some("string"), _)) => ParamKind::String,
                Some((_, value)) => {
                    return wrong_type(value, "of", "\"int\", \"float\", \"bool\" or \"string\"", diagnostics);
                }
                None => {
                    refuse(diagnostics, &table.at, "a list needs `of = \"string\"` or another type".to_owned());
                    return None;
                }
            };
            ParamKind::List(Box::new(element))
        }
        other => {
            let known = ["int", "float", "bool", "string", "choice", "list", "checkpoint"];
            diagnostics.push(
                Diagnostic::error(
                    "bad-manifest",
                    format!("there is no parameter type `{other}`"),
                    text.at.label("here"),
                )
                .help_if(did_you_mean(other, "types", known)),
            );
            return None;
        }
    };
    Some(kind)
}
