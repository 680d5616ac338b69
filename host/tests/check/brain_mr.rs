//! Mistakes on a chain of another system: three MR contrasts, crop and uncrop, two networks, a person's word.

use gantry_host::graph::GridToken;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn the_chain_is_sound() {
    let outcome = Bench::brain_mr().forbid_identity().check();
    let graph = outcome.graph.unwrap_or_else(|| panic!("{}", outcome.sources.render(&outcome.diagnostics, false)));
    assert!(outcome.diagnostics.is_empty(), "{}", outcome.sources.render(&outcome.diagnostics, false));
    let node = |id: &str| graph.nodes.iter().find(|n| n.id == id).unwrap();
    assert_eq!(node("stacked").outputs[0].caps["channels"], json!(["flair", "t1ce", "t2"]));
    assert_eq!(node("flair").outputs[0].grid, Some(GridToken("t1ce.image".into())), "as promised");
    let promise = &node("flair").asserts[0];
    assert_eq!(graph.nodes[promise.node].id, "t1ce");
    assert_eq!(node("whole").outputs[0].grid, Some(GridToken("t1ce.image/cropped.image".into())));
    assert_eq!(node("whole-back").outputs[0].grid, Some(GridToken("t1ce.image".into())));
    assert_eq!(node("whole").outputs[0].caps["labels"], json!(["necrosis", "oedema", "enhancing"]));
    assert_eq!(node("whole").outputs.len(), 1, "probabilities do not exist while the parameter is false");
    assert_eq!(node("whole").outputs[0].caps["synthetic"], json!(false));
    assert_eq!(node("core").params["step"].to_string(), "1.0", "floats always with a point");
    assert_eq!(node("faceless").outputs[0].elements, 2);
    assert_eq!(node("reviewed").inputs.len(), 2);
    assert!(node("reviewed").inputs[1].links.is_empty());
    let mermaid = graph.mermaid();
    assert!(mermaid.contains("window per-slice") && mermaid.contains("more.0: image mr MR f32"), "{mermaid}");
    let dot = graph.dot();
    assert!(dot.starts_with("digraph \"brain-mr\"") && dot.contains("labels [necrosis, oedema, enhancing]"), "{dot}");
}

#[test]
fn unknown_names() {
    Bench::brain_mr().change("seed   = 7", "sed = 7").one_error("unknown-key").says(&["did you mean `seed`?"]);
    Bench::brain_mr()
        .change("\"org.example.crop\"", "\"org.example.corp\"")
        .one_error("unknown-stage")
        .says(&["`org.example.crop`"]);
    Bench::brain_mr().change("step = 1", "stepp = 1").one_error("unknown-parameter").says(&["did you mean `step`?"]);
    Bench::brain_mr().change("{ name = \"core\" }", "{ nane = \"core\" }").one_error("unknown-parameter");
    Bench::brain_mr()
        .change("from   = \"cropped\"", "from   = \"croped\"")
        .one_error("unknown-node")
        .says(&["did you mean `cropped`?"]);
    Bench::brain_mr()
        .change("from  = { labels = \"whole\", reference", "from  = { labels = \"whole.probabilities\", reference")
        .one_error("unknown-port")
        .says(&["set `probabilities = true` at node `whole`"]);
    Bench::brain_mr().change("description = \"_t2\\\\.nii\"", "descripton = \"_t2\"").one_error("unknown-key");
    Bench::brain_mr().change("description = \"_t2\\\\.nii\"", "description = \"(_t2\"").one_error("bad-value");
}

#[test]
fn a_parameter_out_of_range() {
    Bench::brain_mr()
        .change("step = 1", "step = 1.5")
        .one_error("parameter-range")
        .at("step = 1.5")
        .says(&["between 0.1 and 1"]);
}

#[test]
fn a_cycle() {
    Bench::brain_mr()
        .change(
            "from  = { image = \"flair\", more = [\"t1ce\", \"t2\"] }",
            "from  = { image = \"flair\", more = [\"t1ce\", \"cropped\"] }",
        )
        .one_error("cycle")
        .says(&["`stacked` <- `cropped` <- `scaled` <- `stacked`"]);
    let promises = "assert = { image = { grid = \"flair.image\" } }\n\n[nodes.flair]";
    Bench::brain_mr()
        .change("\n\n[nodes.flair]", &format!("\n{promises}"))
        .one_error("cycle")
        .says(&["`flair`", "`t1ce`"]);
}

#[test]
fn a_missing_input() {
    Bench::brain_mr()
        .change("{ labels = \"whole\", reference = \"t1ce\" }", "{ labels = \"whole\" }")
        .one_error("missing-input")
        .says(&["`reference`", "`whole-back`"]);
}

#[test]
fn raw_intensities_into_a_network() {
    Bench::brain_mr()
        .change("from  = \"scaled\"", "from  = \"stacked\"")
        .one_error("card-mismatch")
        .says(&["quantity: `cropped` gives mr", "takes normalized", "org.example.slice-minmax", "org.example.z-score"])
        .names_files(&["pipeline.toml", "whole-tumour/card.toml"]);
}

#[test]
fn swapped_weights() {
    let outcome = Bench::brain_mr().set("whole.checkpoint=tumour-core").set("core.checkpoint=whole-tumour").check();
    let text = outcome.sources.render(&outcome.diagnostics, false);
    let edges: Vec<&str> =
        outcome.diagnostics.iter().filter(|d| d.code == "card-mismatch").map(|d| d.message.as_str()).collect();
    assert_eq!(edges.len(), 2, "{text}");
    assert!(edges[0].starts_with("channels: ") && edges[0].contains("window: "), "{text}");
    assert!(text.contains("tumour-core/card.toml") && text.contains("whole-tumour/card.toml"), "{text}");
    assert!(text.contains("for which there is checkpoint `whole-tumour`"), "{text}");
}

#[test]
fn the_wrong_order_of_channels() {
    Bench::brain_mr()
        .change("more = [\"t1ce\", \"t2\"]", "more = [\"t2\", \"t1ce\"]")
        .one_error("card-mismatch")
        .says(&["channels", "[flair, t2, t1ce]", "[flair, t1ce, t2]", "the order counts"])
        .names_files(&["whole-tumour/card.toml"]);
}

#[test]
fn the_wrong_modality() {
    Bench::brain_mr()
        .change(
            "{ modality = \"MR\", quantity = \"mr\", channel = \"t2\" }",
            "{ modality = \"CT\", quantity = \"mr\", channel = \"t2\" }",
        )
        .check_codes(&["caps-mismatch/modality", "caps-mismatch/modality"], &["`t2` gives CT", "takes MR"]);
}

#[test]
fn labels_on_another_grid() {
    Bench::brain_mr()
        .change("inside = \"core\"", "inside = \"whole\"")
        .one_error("caps-mismatch/grid")
        .says(&["t1ce.image/cropped.image"]);
    Bench::brain_mr()
        .change("params = { modality = \"MR\", quantity = \"mr\", channel = \"flair\" }\nassert = { image = { grid = \"t1ce.image\" } }", "params = { modality = \"MR\", quantity = \"mr\", channel = \"flair\" }")
        .check_codes(&["caps-mismatch/grid", "caps-mismatch/grid", "caps-mismatch/grid"], &["that of flair.image", "assert"]);
}

#[test]
fn labels_that_are_not_there() {
    Bench::brain_mr()
        .change("{ labels = \"whole-back\", inside = \"core\" }", "{ labels = \"core\", inside = \"whole-back\" }")
        .one_error("caps-mismatch/labels")
        .says(&["[core]", "[enhancing]"]);
}

#[test]
fn identity_may_not_leave() {
    Bench::brain_mr()
        .forbid_identity()
        .change("from   = \"faceless.images.1\"", "from   = \"core\"")
        .one_error("identity-policy")
        .at("[nodes.write-core]")
        .says(&["-> core -> write-core", "org.example.deface"]);
}

#[test]
fn lists_and_their_elements() {
    Bench::brain_mr()
        .change("faceless.images.1", "faceless.images.2")
        .one_error("count-mismatch")
        .says(&["2 element(s)"]);
    Bench::brain_mr()
        .change("faceless.images.1", "faceless.images")
        .one_error("count-mismatch")
        .says(&["`faceless.images.0`"]);
    Bench::brain_mr()
        .change("\"faceless.images.1\"", "\"regions.table.0\"")
        .one_error("count-mismatch")
        .says(&["leave out"]);
    Bench::brain_mr().change("faceless.images.1", "faceless.images.one").one_error("bad-reference");
}

#[test]
fn promises_must_name_what_exists() {
    Bench::brain_mr()
        .change(
            "channel = \"t2\" }\nassert = { image = { grid = \"t1ce.image\" } }",
            "channel = \"t2\" }\nassert = { imge = { grid = \"t1ce.image\" } }",
        )
        .check_codes(&["unknown-port", "caps-mismatch/grid", "caps-mismatch/grid"], &["`image`"]);
}
