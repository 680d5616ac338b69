//! `gantry man [VERB]`: a man page in roff, made from the one definition of the command line.

use clap::Args;

use super::command::visible;
use super::reply::Reply;

/// Arguments of `gantry man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Page of one verb, such as `run` or `plugins lock` [default: the program's]
    #[arg(value_name = "VERB")]
    pub verb: Vec<String>,
}

/// The page, for stdout; 2 where there is no such verb.
pub fn run(args: &ManArgs) -> Reply {
    let mut root = visible();
    root.build();
    let mut command = &root;
    let mut name = "gantry".to_owned();
    for verb in &args.verb {
        match command.get_subcommands().find(|c| c.get_name() == verb && verb != "help") {
            Some(found) => command = found,
            None => return Reply::refuse(2, format!("there is no verb `{}`", args.verb.join(" "))),
        }
        name = format!("{name}-{verb}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone().display_name(name).version(version));
    match man.render(&mut page) {
        Ok(()) => Reply { stdout: String::from_utf8_lossy(&page).into_owned(), ..Reply::default() },
        Err(e) => Reply::refuse(3, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(verb: &[&str]) -> Reply {
        run(&ManArgs { verb: verb.iter().map(|v| (*v).to_owned()).collect() })
    }

    #[test]
    fn every_verb_has_a_page() {
        let top = page(&[]).stdout;
        assert!(top.starts_with(".ie") && top.contains(".TH gantry 1") && top.contains("gantry\\-verify"), "{top}");
        assert!(!top.contains("worker"), "{top}");
        let mut verbs = 0;
        for verb in visible().get_subcommands() {
            let one = page(&[verb.get_name()]);
            assert!(one.code == 0 && one.stdout.contains(".SH SYNOPSIS"), "{}: {}", verb.get_name(), one.stderr);
            verbs += 1;
        }
        assert!(verbs > 8);
        assert!(page(&["plugins", "lock"]).stdout.contains("\\-\\-lock"));
        assert_eq!(page(&["nonsense"]).code, 2);
    }
}
