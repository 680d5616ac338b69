//! PyTorch beside this program: `tests/oracles/bench_torch.py` as a server that answers one line with one line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use gantry_plugin::Isa;
use gantry_tests::staging::workspace;
use serde_json::{Value as Json, json};

/// A running server with its own instruction set and number of threads.
pub struct TorchServer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Version, vector capability and threads, as it introduced itself.
    pub introduction: String,
}

impl TorchServer {
    /// Starts `python`, restricted to `isa` if one is given.
    ///
    /// # Errors
    /// If it cannot be started or has no PyTorch.
    pub fn start(python: &str, threads: usize, isa: Option<Isa>) -> Result<Self, String> {
        let mut command = Command::new(python);
        command.arg(workspace().join("tests/oracles/bench_torch.py")).args(["--threads", &threads.to_string()]);
        let limits = match isa {
            None | Some(Isa::Amx) => None,
            Some(Isa::Avx512) => Some(["AVX512_CORE_BF16", "avx512"]),
            Some(Isa::Avx2) => Some(["AVX2", "avx2"]),
            Some(Isa::Portable) => Some(["SSE41", "default"]),
        };
        if let Some([onednn, aten]) = limits {
            command.env("ONEDNN_MAX_CPU_ISA", onednn).env("ATEN_CPU_CAPABILITY", aten);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{python}: {e}"))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (questions, answers) = pipes.ok_or_else(|| format!("{python}: no pipes"))?;
        let mut server =
            Self { child, questions: Some(questions), answers: BufReader::new(answers), introduction: String::new() };
        let hello = server.line().map_err(|why| format!("{python} cannot run bench_torch.py: {why}"))?;
        let text = |key: &str| hello[key].to_string().trim_matches('"').to_owned();
        server.introduction = format!("torch {} ({}), {} threads", text("torch"), text("capability"), text("threads"));
        Ok(server)
    }

    /// Asks one question.
    ///
    /// # Errors
    /// What the server says is wrong, or that it ended.
    pub fn ask(&mut self, question: &Json) -> Result<Json, String> {
        let questions = self.questions.as_mut().ok_or("PyTorch was told to end")?;
        writeln!(questions, "{question}").and_then(|()| questions.flush()).map_err(|e| format!("PyTorch: {e}"))?;
        let answer = self.line()?;
        match answer["error"].as_str() {
            Some(why) => Err(format!("PyTorch: {why} (asked {question})")),
            None => Ok(answer),
        }
    }

    /// Seconds of one run, and its operations.
    ///
    /// # Errors
    /// As [`TorchServer::ask`].
    pub fn time(&mut self, question: &Json) -> Result<(f64, f64), String> {
        let answer = self.ask(question)?;
        let seconds = answer["seconds"].as_array().map(|all| all.iter().filter_map(Json::as_f64).sum());
        seconds.zip(answer["flops"].as_f64()).ok_or_else(|| format!("PyTorch answered {answer}"))
    }

    fn line(&mut self) -> Result<Json, String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("it ended".to_owned()),
            Ok(_) => serde_json::from_str(&line).map_err(|e| format!("{e} in {line:?}")),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Drop for TorchServer {
    fn drop(&mut self) {
        // It ends at the end of its questions; what it says of that does not matter any more.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

/// How PyTorch is to compute: `fp32`, `fp32-last`, `bf16-last`, each also `@avx512` or `@avx2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchMode {
    /// As it was given.
    pub name: String,
    /// `fp32` or `bf16`.
    pub dtype: String,
    /// Channels last, rather than first.
    pub last: bool,
    /// The instruction set it is restricted to.
    pub isa: Option<Isa>,
}

impl std::str::FromStr for TorchMode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (mode, isa) = name.split_once('@').map_or((name, None), |(mode, isa)| (mode, Some(isa)));
        let isa = match isa {
            Some(isa) => Some(Isa::named(isa).ok_or_else(|| format!("`{isa}` is no instruction set"))?),
            None => None,
        };
        let (dtype, last) = mode.strip_suffix("-last").map_or((mode, false), |dtype| (dtype, true));
        if !matches!(dtype, "fp32" | "bf16") {
            return Err(format!("fp32 or bf16, with -last for channels last, expected; found `{mode}`"));
        }
        Ok(Self { name: name.to_owned(), dtype: dtype.to_owned(), last, isa })
    }
}

impl TorchMode {
    /// The fields of a question that say so.
    pub fn complete(&self, question: &Json) -> Json {
        let mut question = question.clone();
        question["dtype"] = json!(self.dtype);
        question["memory_format"] = json!(if self.last { "channels_last" } else { "contiguous" });
        question
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_by_name() -> Result<(), String> {
        let mode: TorchMode = "bf16-last@avx512".parse()?;
        assert_eq!((mode.dtype.as_str(), mode.last, mode.isa), ("bf16", true, Some(Isa::Avx512)));
        let question = mode.complete(&json!({ "case": "conv2d" }));
        assert_eq!(question, json!({ "case": "conv2d", "dtype": "bf16", "memory_format": "channels_last" }));
        for wrong in ["fp16", "fp32-first", "fp32@sse9", ""] {
            assert!(wrong.parse::<TorchMode>().is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn an_interpreter_without_pytorch_is_told() {
        let why = TorchServer::start("false", 1, None).err().expect("`false` is no Python");
        assert!(why.contains("false cannot run bench_torch.py"), "{why}");
    }
}
