//! The data files that scripts make are what the scripts make.

use gantry_tests::oracle;

#[test]
fn sop_classes_and_types_are_what_their_scripts_make() {
    let pydicom = "import pydicom; assert pydicom.__version__ == '3.0.2'";
    let highdicom = "import highdicom, pydicom; assert highdicom.__version__ == '0.28.2'";
    for (script, needs, committed) in [
        ("make_sop_classes.py", pydicom, include_str!("../data/sop_classes.csv")),
        ("make_iod_types.py", highdicom, include_str!("../data/ps33_iod_types.csv")),
    ] {
        let Some(made) = oracle::python(script, needs, &[]) else { continue };
        let differs = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
        assert!(made == committed, "{script} makes another file, from line {:?}", differs.map(|n| n + 1));
    }
}
