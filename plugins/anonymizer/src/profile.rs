//! [`Profile`]: what happens to an attribute: the table under the chosen options, the Types, and the allow-list of
//! unlisted attributes.
//!
//! Over the cells of the chosen options K (kept) comes before C (cleaned), and C before the basic action. One thing is
//! stricter: with modified dates a date is moved even where another option would keep it, since one unmoved date would
//! give the offset away.

use crate::facts::Facts;
use crate::iod_types::{Iod, Type};
use crate::options::{Choice, Options};
use crate::pixel_rules::PixelRule;
use crate::rules::Rules;
use crate::table::{Actions, Cell, Row, Table};
use crate::tag_map::TagMap;
use crate::unlisted::{self, Unlisted};
use dicom_core::{Tag, VR};
use std::sync::OnceLock;

/// The decision for one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Unlisted: the value stays as it is.
    Keep,
    /// Listed, and an option keeps it.
    Retain,
    /// A date, time or date-time that an option moves.
    Shift,
    /// A text of which only harmless words stay.
    CleanText,
    /// The attribute goes.
    Remove(Reason),
    /// The value becomes zero length.
    Empty,
    /// The value becomes a dummy.
    Dummy,
    /// Every UID in the value is mapped.
    MapUid,
    /// A sequence whose items are cleaned in turn.
    Recurse,
    /// The same, but a site's own codes stay: an option retains what they stand for.
    RecurseWithCodes,
    /// A sequence of references to instances: nothing but the references stays, with mapped UIDs.
    References,
    /// An attribute of an overlay, which stays or goes with its plane.
    Overlay,
}

/// A decision, and what led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub decision: Decision,
    /// By which rule.
    pub rule: Rule,
    /// By which option, if one decided.
    pub option: Option<Choice>,
}

impl Verdict {
    fn new(decision: Decision, rule: Rule) -> Self {
        Self { decision, rule, option: None }
    }
}

/// What decides about an attribute where no option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A row of Table E.1-1, with the basic profile's cell.
    Table(Actions),
    /// The allow-list of attributes that the table does not list.
    Unlisted,
    /// Private attributes go.
    Private,
    /// Groups that never pass: lengths, messages, curves, overlays, pixels.
    Group,
    /// A rule of the site.
    Site,
    /// A row of Table E.3.4-1 (content items), with the basic profile's cell.
    Content(Actions),
    /// The rule for content items that Table E.3.4-1 does not list.
    UnlistedContent,
}

/// Why an attribute was removed; the keys of the audit's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Table E.1-1 says X (or the Type permits it).
    Listed,
    /// Odd group.
    Private,
    /// Not in the DICOM dictionary, or not an attribute of an image data set (groups 0000, 0002, 0004).
    Unknown,
    /// Its VR is not the dictionary's, or its content is not possible for its VR.
    WrongVr,
    /// (gggg,0000).
    GroupLength,
    /// Curves 50xx, overlays 60xx, pixel data.
    Graphics,
    /// Unlisted, but of a kind that can hold anything: prose, names, dates, addresses, opaque bytes.
    Unbounded,
    /// Not permitted without attributes that are missing or were removed.
    Stray,
    /// A sequence in which cleaning left nothing.
    Hollow,
    /// A rule of the site.
    Site,
}

/// A de-identification profile.
#[derive(Debug)]
pub struct Profile {
    facts: &'static Facts,
    /// The profile's name in parameters and audit.
    pub name: &'static str,
    /// The chosen options.
    pub options: Options,
    /// The site's own rules for attributes.
    pub rules: Rules,
    /// Which pixels are blanked.
    pub pixel_rules: Vec<PixelRule>,
    /// The table's rows under the options.
    listed: TagMap<Listed>,
}

/// Code and meaning of the Basic Application Level Confidentiality Profile (scheme DCM, PS3.16 CID 7050).
const BASIC: (&str, &str) = ("113100", "Basic Application Confidentiality Profile");

/// A row under the chosen options.
#[derive(Debug, Clone, Copy)]
struct Listed {
    basic: Actions,
    /// The option that decides, and whether it keeps or cleans.
    decider: Option<(Cell, Choice)>,
}

impl Profile {
    /// The basic profile without options.
    ///
    /// # Errors
    /// The embedded facts are malformed (a fault of the build, caught by its tests).
    pub fn basic() -> Result<&'static Self, String> {
        static BASIC_PROFILE: OnceLock<Result<Profile, String>> = OnceLock::new();
        BASIC_PROFILE
            .get_or_init(|| Profile::with(Options::default(), Rules::default(), vec![]))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// The basic profile with options and a site's rules.
    ///
    /// # Errors
    /// The embedded facts are malformed.
    pub fn with(options: Options, rules: Rules, pixel_rules: Vec<PixelRule>) -> Result<Self, String> {
        let facts = Facts::embedded()?;
        let listed = |row: &Row| Listed { basic: row.basic, decider: row.decider(options) };
        let listed = facts.table.rows().map(|(tag, row)| (tag, listed(row))).collect();
        Ok(Self { facts, name: "basic", options, rules, pixel_rules, listed })
    }

    /// The table behind it.
    pub fn table(&self) -> &Table {
        &self.facts.table
    }

    /// The facts behind it.
    pub fn facts(&self) -> &'static Facts {
        self.facts
    }

    /// Whether an option is chosen.
    pub fn has(&self, choice: Choice) -> bool {
        self.options.has(choice)
    }

    /// The text appended to DeidentificationMethod (LO: at most 64 characters); the options stand in the codes.
    pub fn method(&self) -> String {
        format!("Gantry {}: PS3.15 {} {} profile", env!("CARGO_PKG_VERSION"), self.table().edition(), self.name)
    }

    /// Codes and meanings written to DeidentificationMethodCodeSequence: the profile's, and one for each chosen option;
    /// that of Clean Pixel Data only where pixels are `blanked`.
    pub fn codes(&self, blanked: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
        let options = self.options.iter().filter(move |choice| *choice != Choice::PixelData || blanked);
        std::iter::once(BASIC).chain(options.map(Choice::code))
    }

    /// The IOD of a SOP Class.
    pub fn iod(&self, sop_class: &str) -> Iod {
        self.facts.types.iod(sop_class)
    }

    /// The Type of `tag` inside the sequences `place` of an object of `iod`.
    pub fn type_of(&self, iod: Iod, place: &[Tag], tag: Tag) -> Type {
        self.facts.types.of(iod, place, tag)
    }

    /// Decides about `tag` with value representation `vr`, inside the sequences `place` of an object of `iod`.
    pub fn decide(&self, iod: Iod, place: &[Tag], tag: Tag, vr: VR) -> Verdict {
        let (group, element) = (tag.group(), tag.element());
        if group % 2 == 1 {
            return Verdict::new(Decision::Remove(Reason::Private), Rule::Private);
        }
        // Element 0000 of a group is its length, whatever else a table may say. Groups 0000 and 0002 belong to messages
        // and to the file's head, which the writer makes anew; 0004 belongs to a DICOMDIR.
        if element == 0 {
            return Verdict::new(Decision::Remove(Reason::GroupLength), Rule::Group);
        }
        if matches!(group, 0x0000 | 0x0002) {
            return Verdict::new(Decision::Remove(Reason::Unknown), Rule::Group);
        }
        if matches!(group, 0x6000..=0x60ff) && self.has(Choice::Graphics) {
            return Verdict { decision: Decision::Overlay, rule: Rule::Group, option: Some(Choice::Graphics) };
        }
        if matches!(group, 0x5000..=0x50ff | 0x6000..=0x60ff | 0x7f00..=0x7fff) {
            return Verdict::new(Decision::Remove(Reason::Graphics), Rule::Group);
        }
        let Some(listed) = self.listed.get(&tag) else {
            let decision = match unlisted::judge(tag, vr) {
                Unlisted::Keep => Decision::Keep,
                Unlisted::Recurse => Decision::Recurse,
                Unlisted::MapUid if self.has(Choice::Uids) => Decision::Keep,
                Unlisted::MapUid => Decision::MapUid,
                Unlisted::Empty => Decision::Empty,
                Unlisted::Dummy => Decision::Dummy,
                Unlisted::Remove(reason) => Decision::Remove(reason),
            };
            return Verdict::new(decision, Rule::Unlisted);
        };
        let by_option = listed.decider.and_then(|(cell, choice)| {
            let decision = if cell == Cell::Keep { kept(tag, vr, choice) } else { cleaned(tag, vr, choice) };
            decision.map(|decision| (decision, choice))
        });
        match by_option {
            Some((decision, choice)) => Verdict { decision, rule: Rule::Table(listed.basic), option: Some(choice) },
            None => self.without_options(iod, place, tag, vr),
        }
    }

    /// What the profile does without its options, for what an option cannot keep or clean.
    pub fn without_options(&self, iod: Iod, place: &[Tag], tag: Tag, vr: VR) -> Verdict {
        let Some(listed) = self.listed.get(&tag) else {
            return Verdict::new(Decision::Remove(Reason::Unbounded), Rule::Unlisted);
        };
        Verdict::new(resolve(listed.basic, self.type_of(iod, place, tag), vr), Rule::Table(listed.basic))
    }
}

/// What keeping a listed attribute means for its VR; nothing where the VR is not the dictionary's.
fn kept(tag: Tag, vr: VR, choice: Choice) -> Option<Decision> {
    if !unlisted::fits_dictionary(tag, vr) {
        return None;
    }
    Some(match vr {
        VR::SQ if matches!(choice, Choice::Device | Choice::Institution) => Decision::RecurseWithCodes,
        VR::SQ => Decision::Recurse,
        _ => Decision::Retain,
    })
}

/// What cleaning a listed attribute means for its VR; nothing where that kind of value cannot be cleaned.
fn cleaned(tag: Tag, vr: VR, choice: Choice) -> Option<Decision> {
    if !unlisted::fits_dictionary(tag, vr) {
        return None;
    }
    match (choice, vr) {
        (Choice::ModifiedDates, VR::DA | VR::DT | VR::TM | VR::SH) => Some(Decision::Shift),
        (Choice::ModifiedDates, _) => None,
        (Choice::Descriptors | Choice::StructuredContent | Choice::Graphics, VR::SQ) => Some(Decision::Recurse),
        (Choice::Descriptors | Choice::PatientCharacteristics, VR::LO | VR::LT | VR::SH | VR::ST | VR::UC | VR::UT) => {
            Some(Decision::CleanText)
        }
        _ => None,
    }
}

/// Chooses among the permitted actions by Type: the least that the IOD allows to remain.
fn resolve(actions: Actions, kind: Type, vr: VR) -> Decision {
    if actions.map_uid {
        // `U*` stands for a sequence whose references are kept and mapped.
        return if actions.is_single() && vr != VR::SQ { Decision::MapUid } else { Decision::References };
    }
    let remove = actions.remove.then_some(Decision::Remove(Reason::Listed));
    let empty = actions.empty.then_some(Decision::Empty);
    let dummy = actions.dummy.then_some(Decision::Dummy);
    let chosen = match kind {
        // What the table removes whatever the Type, and the IOD demands: nothing of the value stays either way.
        Type::One if actions.remove && actions.is_single() => Some(Decision::Dummy),
        Type::Two if actions.remove && actions.is_single() => Some(Decision::Empty),
        Type::Three => remove.or(empty).or(dummy),
        Type::Two => empty.or(dummy).or(remove),
        // Z permits a dummy too, and Type 1 needs one. Unknown SOP Classes are treated as if it were needed wherever
        // the table offers it.
        Type::One => dummy.or(actions.empty.then_some(Decision::Dummy)).or(remove),
        Type::Unknown => dummy.or(empty).or(remove),
    };
    chosen.unwrap_or(Decision::Remove(Reason::Listed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const PET: &str = "1.2.840.10008.5.1.4.1.1.128";

    fn decide(class: &str, tag: (u16, u16), vr: VR) -> Decision {
        let profile = Profile::basic().expect("profile");
        profile.decide(profile.iod(class), &[], Tag::from(tag), vr).decision
    }

    fn with(choices: &[Choice], tag: (u16, u16), vr: VR) -> (Decision, Option<Choice>) {
        let options = choices.iter().fold(Options::default(), |options, choice| options.with(*choice));
        let profile = Profile::with(options, Rules::default(), vec![]).expect("profile");
        let verdict = profile.decide(profile.iod(CT), &[], Tag::from(tag), vr);
        (verdict.decision, verdict.option)
    }

    #[test]
    fn options_decide_by_their_cells() {
        use Choice::{Descriptors, Device, FullDates, Institution, ModifiedDates, PatientCharacteristics, Uids};
        let date = (0x0008, 0x0020);
        assert_eq!(with(&[FullDates], date, VR::DA), (Decision::Retain, Some(FullDates)));
        assert_eq!(with(&[ModifiedDates], date, VR::DA), (Decision::Shift, Some(ModifiedDates)));
        // A VR that is not the dictionary's is not kept.
        assert_eq!(with(&[FullDates], date, VR::LO), (Decision::Empty, None));
        // K before C, but no date stays where dates are moved.
        let calibration = (0x0018, 0x1200);
        assert_eq!(with(&[Device], calibration, VR::DA), (Decision::Retain, Some(Device)));
        assert_eq!(with(&[Device, ModifiedDates], calibration, VR::DA), (Decision::Shift, Some(ModifiedDates)));
        let allergies = (0x0010, 0x2110);
        assert_eq!(with(&[PatientCharacteristics], allergies, VR::LO).0, Decision::CleanText);
        assert_eq!(with(&[Descriptors], allergies, VR::LO), (Decision::CleanText, Some(Descriptors)));
        assert_eq!(with(&[Uids], (0x0020, 0x0052), VR::UI), (Decision::Retain, Some(Uids)));
        // Unlisted UIDs follow.
        assert_eq!(with(&[Uids], (0x0020, 0x0242), VR::UI), (Decision::Keep, None));
        assert_eq!(with(&[Institution], (0x0008, 0x0082), VR::SQ).0, Decision::RecurseWithCodes);
        assert_eq!(with(&[Device], (0x0008, 0x0055), VR::AE).0, Decision::Remove(Reason::Listed));
        assert_eq!(with(&[FullDates, Uids, Device], (0x0010, 0x0010), VR::PN), (Decision::Empty, None));
    }

    #[test]
    fn the_type_chooses_among_compound_actions() {
        // Series Date is X/D: Type 3 in CT, Type 1 in PET. Content Date is Z/D. Acquisition Date X/Z.
        assert_eq!(decide(CT, (0x0008, 0x0021), VR::DA), Decision::Remove(Reason::Listed));
        assert_eq!(decide(PET, (0x0008, 0x0021), VR::DA), Decision::Dummy);
        assert_eq!(decide("1.2.3", (0x0008, 0x0021), VR::DA), Decision::Dummy);
        assert_eq!(decide(CT, (0x0008, 0x0023), VR::DA), Decision::Empty);
        assert_eq!(decide(CT, (0x0008, 0x0022), VR::DA), Decision::Remove(Reason::Listed));
        assert_eq!(decide(PET, (0x0008, 0x0022), VR::DA), Decision::Empty);
        assert_eq!(decide(CT, (0x0008, 0x2112), VR::SQ), Decision::References);
        assert_eq!(decide(CT, (0x0020, 0x0052), VR::UI), Decision::MapUid);
        // Presentation Creation Date is X, but Type 1 in a presentation state.
        let state = "1.2.840.10008.5.1.4.1.1.11.1";
        assert_eq!(decide(CT, (0x0070, 0x0082), VR::DA), Decision::Remove(Reason::Listed));
        assert_eq!(decide(state, (0x0070, 0x0082), VR::DA), Decision::Dummy);
    }

    #[test]
    fn groups_that_never_pass() {
        assert_eq!(decide(CT, (0x0029, 0x1010), VR::OB), Decision::Remove(Reason::Private));
        assert_eq!(decide(CT, (0x0031, 0x0001), VR::LO), Decision::Remove(Reason::Private));
        assert_eq!(decide(CT, (0x0008, 0x0000), VR::UL), Decision::Remove(Reason::GroupLength));
        assert_eq!(decide(CT, (0x0002, 0x0016), VR::AE), Decision::Remove(Reason::Unknown));
        assert_eq!(decide(CT, (0x6002, 0x1500), VR::LO), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0x50fe, 0x2500), VR::LO), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0x7fe0, 0x0010), VR::OW), Decision::Remove(Reason::Graphics));
        assert_eq!(decide(CT, (0xfffc, 0xfffc), VR::OB), Decision::Remove(Reason::Listed));
        assert_eq!(decide(CT, (0xfffa, 0xfffa), VR::SQ), Decision::Remove(Reason::Listed));
    }

    #[test]
    fn the_method_fits_a_long_string() {
        let method = Profile::basic().expect("profile").method();
        assert!(method.len() <= 64 && method.contains("2026d"), "{method}");
    }
}
