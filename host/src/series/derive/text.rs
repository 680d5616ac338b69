//! Text and times that the host writes into a derived header. Plain ASCII: valid in every character set.

use jiff::tz::{Offset, TimeZone};

use super::{DerivationContext, MANUFACTURER, Nature};
use crate::series::record::Fault;

/// Image Comments of a synthetic image.
pub const SYNTHETIC_COMMENT: &str = "SYNTHETIC - not for diagnosis";
/// Longest Series Description (VR LO), characters.
const MAX_LO: usize = 64;
/// Longest Derivation Description (VR ST), characters.
const MAX_ST: usize = 1024;
/// Longest Image Comments (VR LT), characters.
const MAX_LT: usize = 10240;

/// The Series Description that is written for the pipeline's text: led by `TOY ` when a toy checkpoint took part and
/// by `SYNTHETIC ` when the image is synthetic (unless the text says so itself). Pure: a checker can call it before
/// any run.
///
/// # Errors
/// `description`: not printable ASCII, contains a backslash, or longer than 64 characters with the marks.
pub fn series_description(text: &str, toy: bool, synthetic: bool) -> Result<String, Fault> {
    let text = text.trim();
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'\\') {
        return Err(Fault::new("description", "a series description must be printable ASCII without a backslash"));
    }
    let mut marks = String::new();
    if toy && !text.starts_with("TOY ") && text != "TOY" {
        marks.push_str("TOY ");
    }
    if synthetic && !text.contains("SYNTHETIC") {
        marks.push_str("SYNTHETIC ");
    }
    let whole = format!("{marks}{text}").trim_end().to_owned();
    if whole.len() > MAX_LO {
        return Err(Fault::new(
            "description",
            format!(
                "a series description holds {MAX_LO} characters, of which the marks take {}: expected at most {}, \
                 found {}",
                marks.len(),
                MAX_LO - marks.len(),
                text.len()
            ),
        ));
    }
    Ok(whole)
}

/// What was done, in words, for Derivation Description. `what` was made: an `image`, a `segmentation`.
pub(in crate::series) fn derivation(ctx: &DerivationContext, synthetic: bool, what: &str) -> String {
    let mut parts = vec![match ctx.nature {
        _ if synthetic => format!("{MANUFACTURER}: {SYNTHETIC_COMMENT}"),
        Nature::Enhanced => format!("{MANUFACTURER}: enhanced {what}"),
        _ => format!("{MANUFACTURER}: derived {what}"),
    }];
    if ctx.toy {
        parts.push("made with a TOY checkpoint, without meaning".to_owned());
    }
    if ctx.contrast_removed {
        parts.push("contrast enhancement was removed by computation; contrast medium had been given".to_owned());
    }
    parts.push(format!("pipeline {}", plain(&ctx.pipeline, 64)));
    for model in &ctx.models {
        let mut text = format!("model {}", plain(&model.name, 64));
        if !model.version.is_empty() {
            text += &format!(" {}", plain(&model.version, 32));
        }
        if !model.sha256.is_empty() {
            text += &format!(" (sha256 {})", plain(&model.sha256, 16));
        }
        parts.push(text);
    }
    let done: Vec<&str> = ctx.codes.codes().map(|(_, meaning)| meaning).collect();
    if !done.is_empty() {
        parts.push(done.join(", "));
    }
    plain(&parts.join("; "), MAX_ST)
}

/// `new` after what was done earlier; what does not fit is cut off the front, so that the latest step stays whole.
pub(in crate::series) fn appended(older: &str, new: &str) -> String {
    let older = older.trim();
    if older.is_empty() {
        return new.to_owned();
    }
    let all = format!("{older} | {new}");
    let count = all.chars().count();
    if count <= MAX_ST { all } else { all.chars().skip(count - MAX_ST).collect::<String>().trim_start().to_owned() }
}

/// The synthetic label, before any comment that arrived.
pub(in crate::series) fn synthetic_comment(older: &str) -> String {
    let older = older.trim();
    if older.is_empty() {
        return SYNTHETIC_COMMENT.to_owned();
    }
    if older.starts_with(SYNTHETIC_COMMENT) {
        return older.to_owned();
    }
    format!("{SYNTHETIC_COMMENT}. {older}").chars().take(MAX_LT).collect()
}

/// At most `max` characters of printable ASCII: a backslash would part the value in two and becomes `/`, anything else
/// foreign becomes `?`.
pub(in crate::series) fn plain(text: &str, max: usize) -> String {
    let clean = |c: char| match c {
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    let text: String = text.trim().chars().map(clean).take(max).collect();
    text.trim_end().to_owned()
}

/// One moment as DICOM writes it.
pub(in crate::series) struct Moment {
    /// DA, `YYYYMMDD`.
    pub date: String,
    /// TM, `HHMMSS`.
    pub time: String,
    /// DT with its offset from UTC.
    pub date_time: String,
}

impl Moment {
    /// `timezone` is the header's Timezone Offset From UTC (0008,0201), `&ZZXX`: where a header has one, it holds for
    /// every date and time in it. Without one (or with one that is no offset) the moment is written in UTC.
    pub fn new(time: jiff::Timestamp, timezone: &str) -> Self {
        let offset = offset(timezone).unwrap_or(Offset::UTC);
        let local = TimeZone::fixed(offset).to_datetime(time);
        let date = format!("{:04}{:02}{:02}", local.year(), local.month(), local.day());
        let time = format!("{:02}{:02}{:02}", local.hour(), local.minute(), local.second());
        let minutes = offset.seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let date_time = format!("{date}{time}{sign}{:02}{:02}", minutes.abs() / 60, minutes.abs() % 60);
        Self { date, time, date_time }
    }
}

/// Parses `+0100`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i32 = digits.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    if hours > 14 || minutes > 59 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()
}
