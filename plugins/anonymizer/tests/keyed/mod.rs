//! A stand-in for the host's service `gantry.pseudonym/1`, keyed by a number.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub fn service(key: u8, request: &str) -> Result<String, String> {
    let request: Value = serde_json::from_str(request).map_err(|e| e.to_string())?;
    let number = |value: &Value| {
        let digest = Sha256::digest(format!("{key} {value}"));
        digest.iter().take(16).fold(0u128, |n, b| (n << 8) | u128::from(*b))
    };
    let list = |name: &str| request[name].as_array().cloned().unwrap_or_default();
    let uids: Vec<_> = list("uids").iter().map(|u| format!("2.25.{}", number(u))).collect();
    let ids: Vec<_> = list("ids").iter().map(|i| format!("G{:015X}", number(i) >> 68)).collect();
    let days: Vec<_> = list("date_offsets").iter().map(|p| -1 - (number(p) % 3652) as i64).collect();
    Ok(json!({"uids": uids, "ids": ids, "date_offset_days": days}).to_string())
}
