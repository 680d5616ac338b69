//! Scripts of both forms, statement by statement.

use super::*;

/// Some rows of the table, in its own form.
const TABLE: &str = r#"tag,name,retired,in_std_comp_iod,basic_profile,retain_safe_private,retain_uids,retain_device_identity,retain_institution_identity,retain_patient_characteristics,retain_longitudinal_full_dates,retain_longitudinal_modified_dates,clean_descriptors,clean_structured_content,clean_graphics,edition
"(0008,0050)",Accession Number,N,Y,Z,,,,,,,,,,,2026d
"(0008,0018)",SOP Instance UID,N,Y,U,,K,,,,,,,,,2026d
"(0020,000D)",Study Instance UID,N,Y,U,,K,,,,,,,,,2026d
"(0008,0020)",Study Date,N,Y,Z,,,,,,K,C,,,,2026d
"(0008,0021)",Series Date,N,Y,X/D,,,,,,K,C,,,,2026d
"(0008,0080)",Institution Name,N,Y,X/Z/D,,,,K,,,,,,,2026d
"(0008,1030)",Study Description,N,Y,X,,,,,,,,C,,,2026d
"(0008,0090)",Referring Physician's Name,N,Y,Z,,,,,,,,,,,2026d
"(0010,0010)",Patient's Name,N,Y,Z,,,,,,,,,,,2026d
"(0010,0020)",Patient ID,N,Y,Z/D,,,,,,,,,,,2026d
"(0010,1010)",Patient's Age,N,Y,X,,,,,K,,,,,,2026d
"(0010,4000)",Patient Comments,N,Y,X,,,,,,,,C,,,2026d
"(0012,0010)",Clinical Trial Sponsor Name,N,Y,D,,,,,,,,,,,2026d
"(50XX,XXXX)",Curve Data,N,N,X,,,,,,,,,,C,2026d
PRIVATE,Private Attributes,N,N,X,C,,,,,,,,,,2026d
"#;

fn table() -> Table {
    Table::read(TABLE).unwrap()
}

fn checked(text: &str) -> Script {
    let script = import(text, &table()).unwrap();
    let places = script.done + script.rules.len() + script.notes.len() + script.refused.len();
    assert_eq!(places, script.statements, "{script:#?}");
    script
}

/// One statement in XML.
fn one(tag: &str, action: &str) -> Script {
    let action = action.replace('&', "&amp;").replace('<', "&lt;");
    let script = checked(&format!("<script><e en=\"T\" t=\"{tag}\" n=\"x\">{action}</e></script>"));
    assert_eq!(script.statements, 1);
    script
}

fn is_done(tag: &str, action: &str) {
    assert_eq!(one(tag, action).done, 1, "{tag} {action}: {:?}", one(tag, action));
}

fn is_rule(tag: &str, action: &str, rule: &str) {
    assert_eq!(one(tag, action).rules, [rule], "{:?}", one(tag, action));
}

fn is_note(tag: &str, action: &str, word: &str) {
    let script = one(tag, action);
    assert!(script.notes.first().is_some_and(|n| n.text.contains(word)), "{tag} {action}: {script:?}");
}

fn is_refused(tag: &str, action: &str, word: &str) {
    let script = one(tag, action);
    assert!(script.refused.first().is_some_and(|n| n.text.contains(word)), "{tag} {action}: {script:?}");
}

#[test]
fn removing_and_emptying() {
    is_done("00104000", "@remove()");
    is_done("00104000", "@empty()");
    is_done("00080050", "@empty()");
    is_done("00080090", "@blank(8)");
    is_done("00080080", "");
    is_done("00091010", "@remove()");
    is_done("60000010", "@remove()");
    // What the table does not list is stricter by rule.
    is_rule("00080070", "@remove()", "(0008,0070) remove");
    is_rule("0008,0070", "@empty()", "(0008,0070) empty");
    is_rule("(0018,1030)", "@blank(4)", "(0018,1030) empty");
    // Objects need some attributes.
    is_note("00080050", "@remove()", "stays because objects need it");
    is_note("00120010", "@empty()", "replaces the value (D)");
    is_note("00100010", "@remove()", "pseudonym");
    is_note("00120063", "@remove()", "Gantry writes");
    is_refused("00280010", "@remove()", "cannot be read without");
    is_note("00020016", "@remove()", "written anew");
}

#[test]
fn keeping() {
    is_done("00080060", "@keep()");
    is_done("00180050", "@skip()");
    is_done("00280010", "@keep()");
    is_note("00080060", "@require()", "not made up");
    is_done("00180012", "@keep");
    is_note("00101010", "@keep()", "`patient-characteristics`");
    is_note("00080080", "@keep()", "`institution`");
    is_note("00080020", "@keep()", "`full-dates` or `modified-dates`");
    is_note("00081030", "@keep()", "`descriptors`");
    is_note("00204000", "@keep()", "known to be safe");
    is_refused("0008103000", "@keep()", "cannot be read");
}

#[test]
fn identity_is_not_kept() {
    is_refused("00100010", "@keep()", "never kept");
    is_refused("00100020", "@require()", "never kept");
    is_refused("00080090", "@keep()", "no option keeps it");
    is_refused("00100020", "SUBJECT-1", "mix them");
    is_refused("0020000D", "1.2.3", "mix them");
    is_refused("60003000", "@keep()", "graphics");
    is_note("00291010", "@keep()", "safe-private");
    is_refused("00291010", "yes", "no value");
}

#[test]
fn texts_made_of_values() {
    is_done("00080018", "@hashuid(@UIDROOT,this)");
    is_done("00100020", "@hashptid(@SITEID,PatientID)");
    is_done("00100010", "@hashname(this,6,2)");
    is_done("00100020", "@hash(this,10)");
    is_note("00080050", "@hash(this,16)", "no text is made");
    is_note("00100020", "@lookup(this,ptid)", "own list");
    is_refused("00181000", "@hash(this)", "no text is made");
    is_refused("00100010", "@encrypt(this,\"key\")", "not supported");
    is_refused("00100010", "@initials(this)", "not supported");
    is_refused("00080070", "@fancy(1)", "not supported");
    is_refused("00080070", "A@hash(this)", "several parts");
    is_refused("00080070", "@hash(this", "several parts");
    is_refused("00080070", "@integer(this,KEY,6)", "not supported");
    is_refused("00080070", "@quarantine()", "every object");
}

#[test]
fn dates() {
    let script = one("00080020", "@incrementdate(this,@DATEINC)");
    assert_eq!(script.retain, ["modified-dates"]);
    assert!(script.notes[0].text.contains("differs from patient to patient"));
    assert_eq!(one("00104000", "@incrementdate(this,@DATEINC)").retain, [""; 0]);
    is_note("00080020", "@modifydate(this,*,1,1)", "takes the value away");
    is_note("00080020", "@date()", "no other date");
    is_note("00080012", "@time()", "");

    // With dates kept, what the script removes is gone by rule, not by the profile.
    let script = checked(
        "<script><e en='T' t='00080020' n='a'>@incrementdate(this,3)</e><e en='T' t='00080021' n='b'>@remove()</e>\
         </script>",
    );
    assert_eq!(script.rules, ["(0008,0021) remove"]);
    assert_eq!(checked("<script><e en='T' t='00080021' n='b'>@remove()</e></script>").done, 1);
}

#[test]
fn constants() {
    is_rule("00080080", "Site 7", "(0008,0080) = Site 7");
    is_rule("00080020", "20000101", "(0008,0020) = 20000101");
    is_refused("00080020", "January", "no value of this attribute");
    is_refused("00080060", "computed tomography", "no value of this attribute");
    is_refused("00080080", "two\\values", "no value of this attribute");
    is_refused("00081140", "text", "no value of this attribute");
    is_refused("00280010", "512", "no value of this attribute");
    is_refused("00280004", "RGB", "cannot be read without");
    is_refused("zzzz", "@remove()", "cannot be read");
}

#[test]
fn conditions_that_say_nothing_more_are_followed() {
    is_rule("00080070", "@if(this,exists){@remove()}{}", "(0008,0070) remove");
    is_rule("00080070", "@if([0008,0070],exists){@empty()}", "(0008,0070) empty");
    is_rule("00080070", "@always()@remove()", "(0008,0070) remove");
    is_refused("00080070", "@if(this,exists){@remove()}{@keep()}", "conditions");
    is_refused("00080070", "@if(this,contains,\"x\"){@remove()}{}", "conditions");
    is_refused("00080070", "@if(PatientName,exists){@remove()}{}", "conditions");
}

#[test]
fn a_whole_script_in_xml() {
    let script = checked(
        r#"<script>
<p t="DATEINC">-17</p>
<p t="SITE">North</p>
<p t="UIDROOT">1.2.3</p>
<e en="T" t="00080018" n="SOPInstanceUID">@hashuid(@UIDROOT,this)</e>
<e en="T" t="00080020" n="StudyDate">@incrementdate(this,@DATEINC)</e>
<e en="T" t="00080021" n="SeriesDate">@incrementdate(this,@DATEINC)</e>
<e en="T" t="00080050" n="AccessionNumber">@empty()</e>
<e en="T" t="00080080" n="InstitutionName">@param(@SITE)</e>
<e en="T" t="00080090" n="ReferringPhysicianName"><!-- nobody -->@empty()</e>
<e en="T" t="00100010" n="PatientName">@param(@NOBODY)</e>
<e en="T" t="00100020" n="PatientID">@hashptid(@SITE,PatientID)</e>
<e en="F" t="00101010" n="PatientAge">@keep()</e>
<e en="T" t="00104000" n="PatientComments">@remove()</e>
<e en="T" t="00181000" n="DeviceSerialNumber">@remove()</e>
<e en="T" t="00181000" n="DeviceSerialNumber">@keep()</e>
<k en="T" t="0018">Keep group 18</k>
<k en="F" t="0020">Keep group 20</k>
<r en="T" t="privategroups">Remove private groups</r>
<r en="F" t="overlays">Remove overlays</r>
<r en="T" t="unspecifiedelements">Remove unchecked elements</r>
<r en="T" t="everything">?</r>
<x/>
</script>"#,
    );
    assert_eq!(script.statements, 22);
    assert_eq!(script.retain, ["modified-dates"]);
    assert_eq!(script.rules, ["(0008,0080) = North", "(0018,1000) remove"]);
    let lines = |notes: &[Note]| notes.iter().map(|n| n.line).collect::<Vec<_>>();
    assert_eq!(lines(&script.notes), [2, 4, 6, 7, 17, 20, 21], "{:#?}", script.notes);
    assert_eq!(lines(&script.refused), [11, 16, 22, 23], "{:#?}", script.refused);
    assert_eq!(script.refused[0].tag, "(0010,0010)");
    assert_eq!(script.done, 9);
}

#[test]
fn a_whole_script_of_properties() {
    let script = checked(
        "# A script of the older form\n\
         param.SITE=North\n\
         param.DATEINC=5\n\
         \n\
         set.[0008,0018]SOPInstanceUID=@hashuid(@UIDROOT,this)\n\
         set.[0008,0020]StudyDate=@empty()\n\
         set.[0008,0050]AccessionNumber=@empty()\n\
         set.[0008,0060]Modality=@keep()\n\
         set.[0008,0070]Manufacturer=@remove()\n\
         set.[0008,0080]InstitutionName=@param(@SITE)\n\
         #set.[0008,0090]ReferringPhysicianName=@keep()\n\
         set.[0008,1030]StudyDescription=@keep()\n\
         set.[0010,0010]PatientName=\\\n     @empty()\n\
         set.[0010,0020]PatientID=@lookup(this,id)\n\
         set.[0010,1010]PatientAge=@keep()\n\
         set.[0010,4000]PatientComments=@remove()\n\
         set.[0012,0062]PatientIdentityRemoved=YES\n\
         keep.group18=\n\
         remove.privategroups=\n\
         remove.unspecifiedelements=\n\
         what is this\n",
    );
    assert_eq!(script.statements, 18);
    assert_eq!(script.rules, ["(0008,0070) remove", "(0008,0080) = North"]);
    let lines = |notes: &[Note]| notes.iter().map(|n| n.line).collect::<Vec<_>>();
    assert_eq!(lines(&script.notes), [3, 12, 15, 16, 18, 19, 21], "{:#?}", script.notes);
    assert_eq!(lines(&script.refused), [22]);
    assert_eq!(script.done, 8);
}

#[test]
fn what_is_no_script_is_an_error_with_its_line() {
    let error = |text: &str| import(text, &table()).unwrap_err();
    assert_eq!(error("<script>\n<e t='00100010'>\n</script>").line, 3);
    assert_eq!(error("<html/>").to_string(), "line 1: the root element is not `script`: this is no script of CTP");
    assert!(error("<!DOCTYPE s [<!ENTITY a 'b'>]><script>&a;</script>").text.contains("not well-formed"));
    assert_eq!(error("").line, 1);
    assert_eq!(error("hello\nworld").line, 1);
    assert!(import("<script></script>", &table()).unwrap().statements == 0);
    let deep = format!("<script>{}{}</script>", "<e>".repeat(50_000), "</e>".repeat(50_000));
    let _ = import(&deep, &table());
}

#[test]
fn the_table_is_read_by_its_columns() {
    assert!(Table::read("").is_err());
    assert!(Table::read("tag,basic_profile\n").unwrap_err().contains("no column"));
    let table = table();
    assert!(table.has(Tag(0x0008, 0x0020), "modified-dates") && !table.has(Tag(0x0008, 0x0020), "uids"));
    // The table that ships has every row that can be named by one tag.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let csv = std::fs::read_to_string(path.join("../plugins/anonymizer/data/ps315_table_e1-1.csv")).unwrap();
    let whole = Table::read(&csv).unwrap();
    assert!(whole.has(Tag(0x0010, 0x1010), "patient-characteristics"));
    let script = import("<script><e en='T' t='00100030' n='x'>@keep()</e></script>", &whole).unwrap();
    assert_eq!(script.refused.len() + script.notes.len(), 1);
}
