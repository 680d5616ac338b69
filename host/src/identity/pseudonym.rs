//! Deterministic pseudonyms from a [`Key`], and the service `gantry.pseudonym/1` that answers plugins.
//!
//! Everything is HMAC-SHA-256 over length-prefixed parts, the first of which names the purpose: the same original gives
//! the same pseudonym in every series, run, worker and shard that uses the key, and without the key nothing can be
//! inverted or tested. No state is kept.
//!
//! Request: `{"uids": ["1.2.3", ...], "ids": [{"kind": "patient-id", "value": "..."}, ...], "date_offsets": ["<patient>", ...]}`,
//! every list optional. Response: the same lists in the same order, as `{"uids": ["2.25...", ...], "ids": ["...", ...],
//! "date_offset_days": [-123, ...]}`. Where the site assigns pseudonyms itself, identifiers are looked up in its list, and an entry of
//! `ids` is `null` for a patient who is not on it. Surrounding white space and NUL padding of a value do not count.

use super::assigned::Assigned;
use super::key::Key;
use super::mapping::MappingRow;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// The service's versioned name.
pub const SERVICE: &str = "gantry.pseudonym/1";

/// Dates move back by 1 to this many days.
pub const MAX_DATE_OFFSET_DAYS: u64 = 3652;

/// Alphabet of identifiers (Crockford's base 32: no I, L, O, U).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Why a request was refused. No text of the request is repeated: it holds identities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Not the JSON this service takes.
    #[error(
        "{SERVICE}: expected an object with the lists uids, ids, date_offsets; unreadable at line {line}, column {column}"
    )]
    BadRequest {
        /// Line of the request, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An empty value has no pseudonym.
    #[error("{SERVICE}: entry {index} of {list} is empty; an empty value has no pseudonym")]
    Empty {
        /// Which list.
        list: &'static str,
        /// Index in it, from 0.
        index: usize,
    },
    /// A kind that is not a short kebab-case word.
    #[error("{SERVICE}: the kind of entry {index} of ids must be 1 to 40 of a-z, 0-9 and -")]
    BadKind {
        /// Index in the list, from 0.
        index: usize,
    },
    /// The answer could not be written down.
    #[error("{SERVICE}: the answer could not be encoded")]
    Encoding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    uids: Vec<String>,
    #[serde(default)]
    ids: Vec<Identifier>,
    #[serde(default)]
    date_offsets: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identifier {
    kind: String,
    value: String,
}

#[derive(Serialize)]
struct Response {
    uids: Vec<String>,
    ids: Vec<Option<String>>,
    date_offset_days: Vec<i64>,
}

/// What was answered. The rows hold identities, so neither can be printed.
pub struct Served {
    /// The answer's JSON.
    pub answer: String,
    /// What stands for whom, as far as it was asked.
    pub rows: Vec<MappingRow>,
}

/// Answers one request of `gantry.pseudonym/1` (see the module's head for both shapes); `assigned` is the site's own list.
///
/// # Errors
/// [`ServiceError`]; its text never repeats a value of the request.
pub fn serve(key: &Key, assigned: Option<&Assigned>, request: &str) -> Result<Served, ServiceError> {
    // serde_json's own message may quote a value, so only the place is passed on.
    let request: Request =
        serde_json::from_str(request).map_err(|e| ServiceError::BadRequest { line: e.line(), column: e.column() })?;
    let mut response = Response { uids: vec![], ids: vec![], date_offset_days: vec![] };
    let mut rows = Vec::new();
    let row = |kind: &str, original: &str, replacement: &str| MappingRow {
        kind: kind.to_owned(),
        original: original.to_owned(),
        replacement: replacement.to_owned(),
        date_offset_days: None,
    };
    for (index, uid) in request.uids.iter().enumerate() {
        let original = present(uid, "uids", index)?;
        let replacement = key.uid(original);
        rows.push(row("uid", original, &replacement));
        response.uids.push(replacement);
    }
    for (index, id) in request.ids.iter().enumerate() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.kind.is_empty() || id.kind.len() > 40 || !id.kind.chars().all(plain) {
            return Err(ServiceError::BadKind { index });
        }
        let original = present(&id.value, "ids", index)?;
        let replacement = match assigned {
            None => Some(key.id(&id.kind, original)),
            Some(list) => list.of(original).map(str::to_owned),
        };
        rows.extend(replacement.as_deref().map(|replacement| row(&id.kind, original, replacement)));
        response.ids.push(replacement);
    }
    for (index, patient) in request.date_offsets.iter().enumerate() {
        let patient = present(patient, "date_offsets", index)?;
        let days = key.date_offset_days(patient);
        response.date_offset_days.push(days);
        let of_patient = |row: &&mut MappingRow| row.kind != "uid" && row.original == patient;
        rows.iter_mut().filter(of_patient).for_each(|row| row.date_offset_days = Some(days));
    }
    let answer = serde_json::to_string(&response).map_err(|_| ServiceError::Encoding)?;
    Ok(Served { answer, rows })
}

fn present<'a>(value: &'a str, list: &'static str, index: usize) -> Result<&'a str, ServiceError> {
    let value = trimmed(value);
    if value.is_empty() { Err(ServiceError::Empty { list, index }) } else { Ok(value) }
}

fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

impl Key {
    /// HMAC-SHA-256 of `parts` for one purpose. Each part is preceded by its length, so no two lists of parts collide.
    pub fn digest(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = match Hmac::<Sha256>::new_from_slice(self.bytes()) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes a key of any length"),
        };
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The replacement of a UID: `2.25.` and a version-8 UUID as a decimal number (X.667; at most 44 characters).
    pub fn uid(&self, original: &str) -> String {
        uid_from(&self.digest("uid", &[trimmed(original).as_bytes()]))
    }

    /// A new UID derived from `parts` (for example sink, plan and arriving instance); never equal to a mapped one.
    pub fn derived_uid(&self, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> = parts.iter().map(|p| p.as_bytes()).collect();
        uid_from(&self.digest("derived-uid", &parts))
    }

    /// The replacement of an identifier of some kind (`patient-id`): 16 characters `A-Z0-9`, 75 keyed bits, valid for SH,
    /// LO, CS and PN, and safe as a file name. The first is always `G`.
    pub fn id(&self, kind: &str, value: &str) -> String {
        let digest = self.digest("id", &[kind.as_bytes(), trimmed(value).as_bytes()]);
        let mut bits = u128::from_be_bytes(first_16(&digest));
        let mut text = String::from("G");
        for _ in 0..15 {
            text.push(char::from(ALPHABET[(bits & 31) as usize]));
            bits >>= 5;
        }
        text
    }

    /// How many days all dates of a patient move: -[`MAX_DATE_OFFSET_DAYS`] to -1, one number for each patient.
    pub fn date_offset_days(&self, patient: &str) -> i64 {
        let digest = self.digest("date-offset", &[trimmed(patient).as_bytes()]);
        let number = u128::from_be_bytes(first_16(&digest)) % u128::from(MAX_DATE_OFFSET_DAYS);
        -1 - number as i64
    }
}

fn first_16(digest: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| digest[i])
}

/// `2.25.` and the first 128 bits as a UUID: version 8 (RFC 9562, made by the application's own rule), variant 10.
fn uid_from(digest: &[u8; 32]) -> String {
    let mut bytes = first_16(digest);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    format!("2.25.{}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn key(first: u8) -> Key {
        Key::from_bytes(std::array::from_fn(|i| first.wrapping_add(i as u8))).expect("key")
    }

    fn ask(key: &Key, request: &Value) -> Value {
        let served = serve(key, None, &request.to_string()).unwrap_or_else(|e| panic!("{e}"));
        serde_json::from_str(&served.answer).expect("JSON")
    }

    /// Computed with Python: hmac.new(bytes(range(32)), struct.pack('<Q', 3) + b'uid' + struct.pack('<Q', 5) + b'1.2.3', 'sha256').
    #[test]
    fn the_uid_follows_the_written_rule() {
        assert_eq!(key(0).uid("1.2.3"), EXPECTED_UID);
        assert_eq!(key(0).id("patient-id", "4711"), EXPECTED_ID);
        assert_eq!(key(0).date_offset_days("4711"), EXPECTED_DAYS);
    }
    const EXPECTED_UID: &str = "2.25.336006600246269544752852400795246045209";
    const EXPECTED_ID: &str = "GDXF0Y1HZTYWQ0VB";
    const EXPECTED_DAYS: i64 = -244;

    #[test]
    fn the_same_key_gives_the_same_answer_and_another_key_shares_none() {
        let request = json!({"uids": ["1.2.3", "1.2.4"], "ids": [{"kind": "patient-id", "value": "4711"}], "date_offsets": ["4711"]});
        let (first, again, other) = (ask(&key(1), &request), ask(&key(1), &request), ask(&key(2), &request));
        assert_eq!(first, again);
        for (a, b) in first["uids"].as_array().expect("list").iter().zip(other["uids"].as_array().expect("list")) {
            assert_ne!(a, b);
        }
        assert_ne!(first["ids"], other["ids"]);
        assert_ne!(first["uids"][0], first["uids"][1]);
    }

    #[test]
    fn uids_are_valid_and_order_is_kept() {
        let originals: Vec<String> = (0..200).map(|n| format!("1.2.840.99.{n}")).collect();
        let answer = ask(&key(9), &json!({"uids": originals}));
        let mut seen = std::collections::HashSet::new();
        for (original, mapped) in originals.iter().zip(answer["uids"].as_array().expect("list")) {
            let mapped = mapped.as_str().expect("text");
            assert_eq!(mapped, key(9).uid(original));
            let number: u128 = mapped.strip_prefix("2.25.").expect("root").parse().expect("number");
            assert_eq!((number >> 76) & 0xf, 8, "version");
            assert_eq!((number >> 62) & 0x3, 2, "variant");
            assert!(mapped.len() <= 64 && seen.insert(mapped.to_owned()));
        }
    }

    #[test]
    fn padding_does_not_count_and_kinds_are_apart() {
        let key = key(3);
        assert_eq!(key.uid("1.2.3\0"), key.uid("1.2.3"));
        assert_eq!(key.id("patient-id", " 4711 "), key.id("patient-id", "4711"));
        assert_ne!(key.id("patient-id", "4711"), key.id("accession-number", "4711"));
        assert_ne!(key.derived_uid(&["ab", "c"]), key.derived_uid(&["a", "bc"]));
        assert_ne!(key.derived_uid(&["1.2.3"]), key.uid("1.2.3"));
        let id = key.id("patient-id", "4711");
        assert_eq!(id.len(), 16);
        assert!(id.starts_with('G') && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()));
    }

    #[test]
    fn a_list_of_the_site_answers_for_its_patients_and_null_for_others() {
        let list = Assigned::parse(b"patient_id,pseudonym\n4711,STUDY-001\n").unwrap_or_else(|e| panic!("{e:?}"));
        let request = json!({"uids": ["1.2.3"], "ids": [{"kind": "patient-id", "value": "4711"}, {"kind": "patient-id", "value": "4712"}],
                             "date_offsets": ["4711"]});
        let served = serve(&key(6), Some(&list), &request.to_string()).unwrap_or_else(|e| panic!("{e}"));
        let answer: Value = serde_json::from_str(&served.answer).expect("JSON");
        assert_eq!(answer["ids"], json!(["STUDY-001", null]));
        assert_eq!(answer["uids"], ask(&key(6), &request)["uids"]);
        let rows: Vec<_> =
            served.rows.iter().map(|r| (r.kind.as_str(), r.original.as_str(), r.date_offset_days)).collect();
        assert_eq!(rows, [("uid", "1.2.3", None), ("patient-id", "4711", Some(key(6).date_offset_days("4711")))]);
    }

    #[test]
    fn date_offsets_stay_in_range_and_spread() {
        let key = key(4);
        let offsets: Vec<i64> = (0..2000).map(|n| key.date_offset_days(&n.to_string())).collect();
        assert!(offsets.iter().all(|d| (-(MAX_DATE_OFFSET_DAYS as i64)..=-1).contains(d)));
        let distinct: std::collections::HashSet<_> = offsets.iter().collect();
        assert!(distinct.len() > 1400, "{} distinct", distinct.len());
    }

    #[test]
    fn bad_requests_are_refused_without_repeating_them() {
        let key = key(5);
        for bad in [
            r#"{"uids": "Secret^Name"}"#,
            r#"{"uids": [{"Secret^Name": 1}]}"#,
            r#"{"Secret^Name": []}"#,
            r#"Secret^Name"#,
            r#"{"ids": [{"kind": "Secret^Name", "value": "1"}]}"#,
            r#"{"ids": [{"kind": "", "value": "Secret^Name"}]}"#,
            r#"{"uids": [""]}"#,
            r#"{"uids": ["  \u0000"]}"#,
            r#"{"ids": [{"kind": "patient-id", "value": " "}]}"#,
            r#"{"date_offsets": [""]}"#,
        ] {
            let error = serve(&key, None, bad).err().expect(bad);
            assert!(!error.to_string().contains("Secret"), "{error}");
        }
        assert_eq!(ask(&key, &json!({})), json!({"uids": [], "ids": [], "date_offset_days": []}));
    }
}
