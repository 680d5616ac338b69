//! Mistakes on the DuCoSy chain.

use std::time::Instant;

use gantry_host::graph::GridToken;
use gantry_host::registry::site::Toys;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn the_chain_is_sound_and_the_graph_is_complete() {
    let outcome = Bench::ducosy().forbid_identity().check();
    let graph = outcome.graph.unwrap_or_else(|| panic!("{}", outcome.sources.render(&outcome.diagnostics, false)));
    assert!(outcome.diagnostics.is_empty(), "{}", outcome.sources.render(&outcome.diagnostics, false));
    let node = |id: &str| graph.nodes.iter().find(|n| n.id == id).unwrap();
    let position = |id: &str| graph.nodes.iter().position(|n| n.id == id).unwrap();

    assert_eq!(
        node("soft-window").params,
        *json!({ "hu_min": -150.0, "hu_max": 250.0, "normalisation": "linear" }).as_object().unwrap()
    );
    let soft = node("soft");
    assert_eq!(soft.outputs[0].caps["window"], json!([-150.0, 250.0]));
    assert_eq!(soft.outputs[0].caps["synthetic"], json!(true));
    assert_eq!(soft.outputs[0].caps["modality"], json!("CT"), "left to the card, which is silent: as it came");
    assert_eq!(soft.inputs[0].caps["quantity"], json!("normalized"));
    assert_eq!(node("soft-hu").outputs[0].caps["quantity"], json!("hu"));

    let patches = &node("integrated").inputs[1];
    let names: Vec<(&str, usize)> = patches.links.iter().map(|l| (l.name.as_str(), l.node)).collect();
    assert_eq!(names, [("0", position("soft-hu")), ("1", position("lung-hu"))]);
    assert_eq!(patches.caps.get("window"), None, "the two differ");
    assert_eq!(node("integrated").outputs[0].caps["synthetic"], json!(true), "patches make the base synthetic");
    assert_eq!(node("integrated").outputs[0].caps.get("window"), None);

    let heart = node("heart");
    assert_eq!(heart.inputs[0].port, "image");
    assert_eq!(heart.inputs[0].links[0].node, position("ncct"));
    assert!(heart.outputs[0].may_be_absent && heart.outputs[0].read);
    assert_eq!(heart.outputs[0].grid, Some(GridToken("ncct.image".into())));
    assert_eq!(node("masked").outputs[0].grid, Some(GridToken("ncct.image".into())));

    let anonymous = node("anonymous");
    assert_eq!((anonymous.outputs[0].elements, anonymous.outputs[0].read), (1, true));
    assert_eq!(anonymous.outputs[0].caps["identity"], json!("removed"));
    assert!(!anonymous.outputs[1].read, "nobody reads the audit");
    assert_eq!(node("masked").outputs[0].caps["identity"], json!("present"));
    assert_eq!(node("write").inputs[0].links[0].element, Some(0));
    assert!(graph.undecided.is_empty());
}

#[test]
fn the_check_takes_less_than_a_second_and_the_digest_follows_the_meaning() {
    let bench = Bench::ducosy();
    let start = Instant::now();
    let first = bench.check().graph.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("check: {seconds:.3} s");
    assert!(seconds < 1.0, "{seconds}");
    let commented = Bench::ducosy().change("name   = \"ducosy\"", "name = 'ducosy' # the same").check().graph.unwrap();
    assert_eq!(first.canonical_json(), commented.canonical_json());
    assert_eq!(first.digest().len(), 64);
    let other = Bench::ducosy().set("refined.protect_above_hu=751").check().graph.unwrap();
    assert_ne!(first.digest(), other.digest());
}

#[test]
fn the_other_pipelines_are_sound() {
    for (file, toys) in [("ducosy-published", Toys::Refuse), ("demo", Toys::Allow)] {
        let mut bench = Bench::new(&format!("config/pipelines/{file}.toml"), "plugins", "tests/data/checkpoints");
        bench.site.toys = toys;
        let outcome = bench.forbid_identity().check();
        assert!(
            outcome.graph.is_some() && outcome.diagnostics.is_empty(),
            "{file}: {}",
            outcome.sources.render(&outcome.diagnostics, false)
        );
    }
}

#[test]
fn unknown_key() {
    let bench = Bench::ducosy().change("from   = \"soft-window\"", "form   = \"soft-window\"");
    let outcome = bench.check();
    let codes: Vec<&str> = outcome.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["unknown-key", "missing-input"], "what is not connected is said too");
    assert_eq!(outcome.diagnostics[0].help.as_deref(), Some("did you mean `from`?"));
    Bench::ducosy()
        .change("name   = \"ducosy\"", "name = \"ducosy\"\nsede = 1")
        .one_error("unknown-key")
        .at("sede = 1")
        .says(&["did you mean `seed`?"]);
}

#[test]
fn unknown_stage() {
    Bench::ducosy()
        .change("stage = \"complementary-integrator\"", "stage = \"complementary-integrater\"")
        .one_error("unknown-stage")
        .at("complementary-integrater")
        .says(&["did you mean `complementary-integrator`?"]);
}

#[test]
fn unknown_parameter() {
    Bench::ducosy()
        .change("protect_above_hu = 750.0", "protect_above = 750.0")
        .one_error("unknown-parameter")
        .at("protect_above = 750.0")
        .says(&["protect_above_hu"]);
    Bench::ducosy()
        .set("soft-window.hu_mni=1")
        .one_error("unknown-parameter")
        .says(&["--set soft-window.hu_mni=1", "`hu_min`"]);
}

#[test]
fn out_of_range_and_wrong_parameters() {
    Bench::ducosy()
        .change("hu_min = -1000.0", "hu_min = -2000.0")
        .one_error("parameter-range")
        .at("hu_min = -2000.0")
        .says(&["between -1024 and 3071 HU", "-2000", "plugin.toml"]);
    Bench::ducosy().change("hu_min = -1000.0", "hu_min = \"low\"").one_error("parameter-type").at("\"low\"");
    Bench::ducosy()
        .change("\"gaussian3d\"", "\"gausian3d\"")
        .one_error("parameter-choice")
        .says(&["did you mean `gaussian3d`?"]);
    Bench::ducosy()
        .change("{ hu_min = -150.0, hu_max = 250.0 }", "{ hu_min = -150.0 }")
        .one_error("parameter-missing")
        .says(&["hu_max"]);
    Bench::ducosy()
        .change("hu_min = -150.0", "hu_min = 300.0")
        .one_error("parameter-range")
        .at("hu_min = 300.0")
        .says(&["starts at 300"]);
    assert!(Bench::ducosy().set("lung-window.hu_min=-1000").check().graph.is_some(), "a whole number is a number");
}

#[test]
fn cycle() {
    Bench::ducosy()
        .change("from  = \"soft\"", "from  = \"integrated.image\"")
        .one_error("cycle")
        .says(&["`soft-hu` <- `integrated` <- `soft-hu`"]);
}

#[test]
fn missing_input_and_unknown_names() {
    Bench::ducosy()
        .change("{ base = \"ncct\", patches = [\"soft-hu\", \"lung-hu\"] }", "{ patches = [\"soft-hu\", \"lung-hu\"] }")
        .one_error("missing-input")
        .says(&["`base`", "`integrated`", "plugin.toml"]);
    Bench::ducosy()
        .change("from   = \"soft-window\"", "from   = \"soft-windw\"")
        .one_error("unknown-node")
        .says(&["did you mean `soft-window`?"]);
    Bench::ducosy()
        .change("inside = \"integrated.changed\"", "inside = \"integrated.chnged\"")
        .one_error("unknown-port")
        .says(&["`changed`"]);
    Bench::ducosy()
        .change("source = \"ncct\"", "sorce = \"ncct\"")
        .one_error("unknown-port")
        .says(&["did you mean `source`?"]);
    let of =
        |node: &str| Bench::own_mask().change("\nparams = { of = \"ncct\"", &format!("\nparams = {{ of = \"{node}\""));
    of("nct").one_error("unknown-node").says(&["did you mean `ncct`?"]);
    Bench::ducosy().set("heart.offf=1").one_error("unknown-parameter");
    Bench::ducosy().set("haert.of=1").one_error("unknown-node");
    Bench::ducosy().set("heart").one_error("bad-override");
}

#[test]
fn which_port_is_meant_must_be_clear() {
    Bench::ducosy()
        .change("from   = { image = \"refined\", source = \"ncct\", mask = \"heart\" }", "from = [\"refined\"]")
        .one_error("wrong-type");
    let several = Bench::ducosy()
        .change("stage = \"denormalise\"            # the window", "stage = \"anatomical-masks\"  # the window")
        .change("from  = \"soft\"", "from  = \"ncct\"");
    several.one_error("ambiguous-port").says(&["\"soft-hu.lung\"", "\"soft-hu.bone\""]);
    Bench::ducosy()
        .change("from  = { base = \"ncct\",", "from  = { base = [\"ncct\"],")
        .one_error("count-mismatch")
        .at("[\"ncct\"]");
}

#[test]
fn raw_hu_into_a_generator() {
    Bench::ducosy()
        .change("from   = \"soft-window\"", "from   = \"ncct\"")
        .one_error("caps-mismatch/quantity")
        .says(&[
            "`ncct` gives hu",
            "takes normalized",
            "add `hu-window` between `ncct` and `soft`",
            "window: `ncct` does not say",
        ])
        .names_files(&["pipeline.toml", "cyclegan-generator/plugin.toml"]);
}

#[test]
fn a_forgotten_inverse() {
    Bench::ducosy()
        .change("patches = [\"soft-hu\", \"lung-hu\"]", "patches = [\"soft\", \"lung-hu\"]")
        .one_error("caps-mismatch/quantity")
        .says(&["add `denormalise` between `soft` and `integrated`"]);
}

#[test]
fn swapped_weights() {
    let bench = Bench::ducosy().change("checkpoint = \"ducosy-soft\"", "checkpoint = \"ducosy-lunge\"");
    let bench = bench
        .change("checkpoint = \"ducosy-lung\"", "checkpoint = \"ducosy-soft\"")
        .change("ducosy-lunge", "ducosy-lung");
    let outcome = bench.check();
    let codes: Vec<&str> = outcome.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["card-mismatch", "card-mismatch"]);
    let text = outcome.sources.render(&outcome.diagnostics, false);
    for word in [
        "window: `soft-window` gives [-150, 250], `soft.image` takes [-1000, -150]",
        "says the card of `ducosy-lung`",
        "ducosy-lung/card.toml",
        "`soft-window` gives window [-150, 250], for which there is checkpoint `ducosy-soft`",
    ] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    Bench::ducosy()
        .set("soft.checkpoint=ducosy-lung")
        .one_error("card-mismatch")
        .names_files(&["ducosy-lung/card.toml"]);
}

#[test]
fn weights_that_want_masks() {
    let bench = Bench::ducosy().set("soft.checkpoint=ducosy-soft-masks");
    bench.one_error("missing-input").says(&["`bone`, `mediastinum`", "ducosy-soft-masks", "card.toml"]);
    let with_masks = |masks: &str| {
        Bench::ducosy()
            .set("soft.checkpoint=ducosy-soft-masks")
            .change("from   = \"soft-window\"", &format!("from = {{ image = \"soft-window\", masks = {{ {masks} }} }}"))
            .change(
                "[nodes.soft-hu]",
                "[nodes.masks]\nstage = \"anatomical-masks\"\nfrom = \"ncct\"\n\n[nodes.soft-hu]",
            )
    };
    let outcome = with_masks("mediastinum = \"masks.mediastinum\", bone = \"masks.bone\"").check();
    let graph = outcome.graph.unwrap_or_else(|| panic!("{}", outcome.sources.render(&outcome.diagnostics, false)));
    let soft = graph.nodes.iter().find(|n| n.id == "soft").unwrap();
    let names: Vec<&str> = soft.inputs[1].links.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["bone", "mediastinum"], "in the order of the card");
    with_masks("bone = \"masks.bone\"").one_error("missing-input").says(&["lacks `mediastinum`"]);
    with_masks("bone = \"masks.bone\", mediastinum = \"masks.mediastinum\", lung = \"masks.lung\"")
        .one_error("card-mismatch")
        .says(&["no element `lung`"]);
}

#[test]
fn a_mask_on_another_grid() {
    Bench::ducosy()
        .change("[nodes.heart]", "[nodes.other]\nstage = \"dicom-read\"\nselect = { folder = \"POST STD\" }\nparams = { modality = \"CT\", quantity = \"hu\" }\n\n[nodes.heart]")
        .change("stage  = \"heart-mask\"\nfrom   = \"ncct\"", "stage  = \"heart-mask\"\nfrom   = \"other\"")
        .one_error("caps-mismatch/grid")
        .at("mask = \"heart\"")
        .says(&["that of other.image", "that of ncct.image", "assert"]);
}

#[test]
fn the_wrong_modality() {
    Bench::ducosy()
        .change(
            "params = { modality = \"CT\", quantity = \"hu\" }",
            "params = { modality = \"MR\", quantity = \"hu\" }",
        )
        .check_codes(&["card-mismatch"; 3], &["modality: `soft-window` gives MR", "takes CT"]);
}

#[test]
fn identity_may_not_leave_where_the_site_forbids_it() {
    let plain = || Bench::ducosy().change("from   = \"anonymous\"", "from   = \"masked\"");
    assert!(plain().check().graph.is_some(), "no policy, no objection");
    plain().forbid_identity().one_error("identity-policy").at("[nodes.write]").says(&[
        "ncct -> ",
        " -> masked -> write",
        "add `anonymizer` before `write`",
    ]);
    Bench::ducosy()
        .forbid_identity()
        .change("[nodes.ncct]", "[output]\ncase_name = \"folder\"\n\n[nodes.ncct]")
        .one_error("identity-policy")
        .at("case_name = \"folder\"");
    assert!(
        Bench::ducosy()
            .change("[nodes.ncct]", "[output]\ncase_name = \"folder\"\n\n[nodes.ncct]")
            .check()
            .graph
            .is_some()
    );
}

#[test]
fn the_key_is_asked_for() {
    let mut bench = Bench::ducosy();
    bench.site.key_made = false;
    bench.one_error("key-missing").says(&["gantry key new"]);
    bench.site.key_file = Some("/no/such/file.key".into());
    bench.one_error("key-missing").says(&["/no/such/file.key"]);
}

#[test]
fn checkpoints_that_are_missing_or_toys() {
    Bench::ducosy().set("soft.checkpoint=ducosy-sfot").one_error("unknown-checkpoint").says(&[
        "did you mean `ducosy-soft`?",
        "gantry weights import FILE --arch ducosy-generator --name ducosy-sfot",
    ]);
    let mut toys = Bench::ducosy().set("soft.checkpoint=toy-soft");
    toys.one_error("toy-checkpoint").says(&["--allow-toy", "toy-soft/card.toml"]);
    toys.site.toys = Toys::Warn;
    let outcome = toys.check();
    assert!(outcome.graph.is_some());
    assert_eq!(outcome.diagnostics.len(), 1);
    toys.site.toys = Toys::Allow;
    assert!(toys.check().diagnostics.is_empty());
}

#[test]
fn something_optional_cannot_feed_what_must_be_there() {
    let bench = Bench::ducosy().change(
        "[nodes.anonymous]",
        "[nodes.write-heart]\nstage = \"nifti-write\"\nfrom = \"heart\"\n\n[nodes.anonymous]",
    );
    bench.one_error("absent-output").at("from = \"heart\"").says(&["optional = false"]);
    let certain = Bench { text: bench.text.replace("optional = true", "optional = false"), ..Bench::ducosy() };
    assert!(certain.check().graph.is_some());
}

#[test]
fn everything_is_said_at_once_and_nothing_twice() {
    let bench = Bench::ducosy()
        .change("hu_min = -1000.0", "hu_min = -2000.0")
        .change("stage  = \"apply-mask\"", "stage  = \"aply-mask\"")
        .change("from   = \"soft-window\"", "from   = \"ncct\"");
    bench.check_codes(&["caps-mismatch/quantity", "parameter-range", "unknown-stage"], &[]);
}
