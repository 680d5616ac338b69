//! Outputs as they are opened: what follows what, and what `begin` may not change.

use super::*;
use crate::diagnostic::Sources;
use crate::graph::{self, Graph};
use crate::pipeline::Document;
use crate::registry::{Place, Places, Registry, Site};

/// The brain-MR chain of the tests: it scales, crops, and puts labels back into the grid they were cut from.
fn graph() -> Graph {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/brain-mr");
    let place = |name: &str, what| Place { path: folder.join(name), why: "test", what };
    let places =
        Places { plugins: vec![place("plugins", "plugins")], checkpoints: vec![place("checkpoints", "checkpoints")] };
    let text = std::fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    let (mut sources, mut found) = (Sources::new(), Vec::new());
    let registry = Registry::open(&places, &mut sources);
    let document = Document::parse("pipeline.toml", &text, &[], &mut sources, &mut found).unwrap();
    let (graph, more) = graph::build(&document, &registry, &Site { key_made: true, ..Site::default() });
    graph.unwrap_or_else(|| panic!("{}", sources.render(&more, false)))
}

/// An edge on a grid of `size` `[z, y, x]` from `z_mm` on, with a header a slice.
fn volume(item_kind: u32, size: [usize; 3], z_mm: f64) -> Edge {
    let affine = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, z_mm];
    let geometry = tokened(Geometry { size, affine, ..Geometry::default() });
    let headers = (0..size[0]).map(|z| Arc::from(format!("header {z}").into_bytes())).collect();
    Edge {
        kind: item_kind,
        dtype: dtype::F32,
        shape: [1, size[0], size[1], size[2]],
        geometry: Arc::new(GeometryCell::new(&geometry)),
        channels: Arc::new(Names::new(["a".to_owned()])),
        labels: Arc::default(),
        maps: Shared::new(vec![Map { scale: 2.0, ..IDENTITY }; size[0]]),
        companions: Arc::new(Companions { headers: std::sync::Mutex::new(headers), ..Companions::default() }),
        volume: None,
        bytes: Shared::default(),
        files: Shared::default(),
    }
}

fn opened_as(edge: &Edge) -> Opened {
    Opened { absent: false, dtype: edge.dtype, channels: edge.shape[0] as i64, channel_names: None, labels: Vec::new() }
}

fn count(edge: &Edge) -> usize {
    edge.companions.headers.lock().unwrap().len()
}

#[test]
fn headers_follow_like_but_never_onto_another_grid() {
    let graph = graph();
    let node = |id: &str| graph.nodes.iter().find(|n| n.id == id).unwrap();
    let image = volume(kind::IMAGE, [4, 3, 2], 0.0);
    let scaled = outputs(node("scaled"), |_| Some(&image)).unwrap();
    assert!(Arc::ptr_eq(&scaled[0][0].companions, &image.companions), "the same slices");
    let cropped = outputs(node("cropped"), |_| Some(&image)).unwrap();
    assert_eq!(count(&cropped[0][0]), 0, "slice 0 of a part is another slice than slice 0 of the whole");
    let part = volume(kind::LABELS, [2, 3, 2], 2.0);
    let back = node("whole-back");
    let reference = back.inputs.iter().find(|i| i.port == "reference").unwrap().links[0].node;
    let put_back = outputs(back, |link| Some(if link.node == reference { &image } else { &part })).unwrap();
    assert_eq!(put_back[0][0].shape, [1, 4, 3, 2], "on the grid of the reference");
    assert_eq!(count(&put_back[0][0]), 0, "neither the part's headers nor, unasked, the reference's");
}

#[test]
fn a_part_lies_on_the_lattice_of_the_whole_under_a_token_of_its_own() {
    let graph = graph();
    let node = graph.nodes.iter().find(|n| n.id == "cropped").unwrap();
    let image = volume(kind::IMAGE, [4, 3, 2], 0.0);
    let whole = image.geometry.get().unwrap();
    let cropped = outputs(node, |_| Some(&image)).unwrap();
    let part = cropped[0][0].geometry.get().unwrap();
    assert_eq!(part.lattice, whole.lattice);
    assert_ne!(part.grid, whole.grid);
}

#[test]
fn begin_cannot_move_a_grid_that_is_an_inputs() {
    let graph = graph();
    let node = graph.nodes.iter().find(|n| n.id == "scaled").unwrap();
    let image = volume(kind::IMAGE, [4, 3, 2], 0.0);
    let before = image.geometry.get().unwrap();
    let mut planned = outputs(node, |_| Some(&image)).unwrap();
    let edge = &mut planned[0][0];
    settle(node, 0, edge, opened_as(&image), &copied(&image.geometry).unwrap()).unwrap();
    assert_eq!(edge.shape, [3, 4, 3, 2], "the channels that the caps promise, on the same slices");
    for moved in [
        Geometry { size: [5, 3, 2], ..before.clone() },
        Geometry { affine: std::array::from_fn(|i| before.affine[i] + f64::from(u8::from(i == 11))), ..before.clone() },
    ] {
        let failure = settle(node, 0, edge, opened_as(&image), &GeometryCell::new(&moved)).unwrap_err();
        assert_eq!(failure.code, "bad-geometry");
    }
    assert_eq!(image.geometry.get().unwrap(), before, "what a stage writes into is a copy");
}

fn table_of(rows: &[(i64, &str)]) -> Vec<LabelRow> {
    let row = |&(value, name): &(i64, &str)| LabelRow {
        value,
        name: name.to_owned(),
        scheme: "SCT".to_owned(),
        code: "80891009".to_owned(),
        rgba: 0xff00_00ff,
    };
    rows.iter().map(row).collect()
}

#[test]
fn a_label_table_has_the_names_that_the_caps_promise() {
    let promised = serde_json::json!(["heart", "aorta"]);
    for kept in [
        &[(51, "heart"), (52, "aorta")][..],
        &[(0, "background"), (52, "aorta"), (51, "heart")],
        &[(0, "anything"), (1, "heart"), (2, "aorta")],
    ] {
        table_kept(&table_of(kept), &promised).unwrap();
    }
    for (broken, word) in [
        (&[(1, "heart")][..], "lacks `aorta`"),
        (&[(1, "heart"), (2, "aorta"), (3, "liver")], "has 1 names that"),
        (&[(1, "heart"), (2, "liver")], "has 1 other names where the caps promise `aorta`"),
        (&[(1, "heart"), (1, "aorta")], "the value 1 twice"),
        (&[(1, "heart"), (2, "heart"), (3, "aorta")], "the name of the value 2 twice"),
        (&[(1, ""), (2, "aorta")], "no name for the value 1"),
    ] {
        let why = table_kept(&table_of(broken), &promised).unwrap_err();
        assert!(why.contains(word), "{why}");
    }
    let with_background = serde_json::json!(["background", "heart"]);
    table_kept(&table_of(&[(0, "background"), (1, "heart")]), &with_background).unwrap();
    assert!(table_kept(&table_of(&[(1, "heart")]), &with_background).is_err());
    for free in [serde_json::json!("dynamic"), serde_json::json!([]), serde_json::Value::Null] {
        table_kept(&table_of(&[(7, "liver")]), &free).unwrap();
        assert!(table_kept(&table_of(&[(7, "liver"), (7, "heart")]), &free).is_err(), "ambiguous anywhere");
    }
}

#[test]
fn codes_and_colours_set_in_begin_are_the_edges_and_follow_like() {
    let graph = graph();
    let node = |id: &str| graph.nodes.iter().find(|n| n.id == id).unwrap();
    let (maker, relay) = (node("whole"), node("whole-back"));
    let output = maker.outputs.iter().position(|o| o.port == "labels").unwrap();
    let promised = maker.outputs[output].caps["labels"].as_array().unwrap();
    let names: Vec<&str> = promised.iter().map(|n| n.as_str().unwrap()).collect();
    let image = volume(kind::IMAGE, [4, 3, 2], 0.0);
    let mut edge = Edge { kind: kind::LABELS, dtype: dtype::U8, ..image.clone() };
    let opened = |names: &[&str]| {
        let row = |(i, n): (usize, &&str)| (i as i64 + 50, (*n).to_owned(), "SCT".into(), "1".into(), 0x01_02_03_ff);
        Opened { labels: names.iter().enumerate().map(row).collect(), ..opened_as(&edge) }
    };
    let (right, wrong) = (opened(&names), opened(&["other"]));
    settle(maker, output, &mut edge, right, &copied(&image.geometry).unwrap()).unwrap();
    assert!(edge.labels.permits(0) && edge.labels.rows[0].name == "background", "named by the stage or not");
    let row = edge.labels.rows[1].clone();
    assert_eq!((row.value, row.name.as_str(), row.code.as_str(), row.rgba), (50, names[0], "1", 0x01_02_03_ff));
    let reference = relay.inputs.iter().find(|i| i.port == "reference").unwrap().links[0].node;
    let carried = outputs(relay, |link| Some(if link.node == reference { &image } else { &edge })).unwrap();
    assert_eq!(carried[0][0].labels.rows, edge.labels.rows, "not values 1, 2, ... without codes");
    let failure = settle(maker, output, &mut edge, wrong, &copied(&image.geometry).unwrap()).unwrap_err();
    assert_eq!(failure.code, "bad-output");
}
