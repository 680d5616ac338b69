//! Moving dates by whole days: DA and the date of DT are shifted, times of day stay, so every interval of a patient is
//! kept to the second.
//!
//! Pure: text in, text out; `None` for what is no value of the VR, and for a result outside the years 1 to 9999.
//! Precision, fraction, time zone and the old form `YYYY.MM.DD` are kept as written.

use jiff::Span;
use jiff::civil::Date;

/// A DA value moved by `days`.
pub fn shift_date(text: &str, days: i64) -> Option<String> {
    let (date, dotted) = parse_date(text)?;
    let moved = add(date, days)?;
    let (y, m, d) = (moved.year(), moved.month(), moved.day());
    Some(if dotted { format!("{y:04}.{m:02}.{d:02}") } else { format!("{y:04}{m:02}{d:02}") })
}

/// A DT value moved by `days`. Where the day is not given, the middle of the month or year is moved and cut again.
pub fn shift_datetime(text: &str, days: i64) -> Option<String> {
    let parts = DateTime::parse(text)?;
    let day = match (parts.month, parts.day) {
        (Some(month), Some(day)) => Date::new(parts.year, month, day),
        (Some(month), None) => Date::new(parts.year, month, 15),
        (None, _) => Date::new(parts.year, 7, 1),
    };
    let moved = add(day.ok()?, days)?;
    let mut result = format!("{:04}", moved.year());
    if parts.month.is_some() {
        result.push_str(&format!("{:02}", moved.month()));
    }
    if parts.day.is_some() {
        result.push_str(&format!("{:02}", moved.day()));
    }
    result.push_str(parts.rest);
    Some(result)
}

/// Whether a text is a DA value.
pub fn is_date(text: &str) -> bool {
    parse_date(text).is_some()
}

/// Whether a text is a DT value.
pub fn is_datetime(text: &str) -> bool {
    DateTime::parse(text).is_some()
}

/// Whether a text is a TM value: `HH[MM[SS[.F]]]`, or the old form with colons.
pub fn is_time(text: &str) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let plain = match whole.len() {
        5 | 8 if whole.contains(':') => {
            let parts: Vec<&str> = whole.split(':').collect();
            if parts.iter().any(|p| p.len() != 2) {
                return false;
            }
            parts.concat()
        }
        _ => whole.to_owned(),
    };
    let fits = |at: usize, limit: u32| plain.get(at..at + 2).is_none_or(|t| number(t).is_some_and(|n| n < limit));
    matches!(plain.len(), 2 | 4 | 6)
        && fits(0, 24)
        && fits(2, 60)
        && fits(4, 61)
        && fraction.is_none_or(|f| plain.len() == 6 && is_fraction(f))
}

/// Whether a text is an offset from UTC, `+0100`.
pub fn is_timezone(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(['+', '-']).filter(|d| d.len() == 4) else { return false };
    let (Some(hours), Some(minutes)) = (digits.get(..2).and_then(number), digits.get(2..).and_then(number)) else {
        return false;
    };
    let limit = if text.starts_with('-') { 1200 } else { 1400 };
    minutes < 60 && hours * 100 + minutes <= limit
}

/// An AS value; `090Y`, which stands for 90 and more, where the age is above 89 years. Three digits of months, weeks or
/// days never are.
pub fn capped_age(text: &str) -> Option<String> {
    let (digits, unit) = (text.get(..3)?, text.get(3..)?);
    let count = number(digits)?;
    let above = matches!(unit, "Y") && count > 89;
    matches!(unit, "Y" | "M" | "W" | "D").then(|| if above { "090Y".to_owned() } else { text.to_owned() })
}

/// A number of UCUM units of time in years; `None` for other units and for what is no age.
pub fn years(number: f64, units: &str) -> Option<f64> {
    let in_years = match units {
        "a" => 1.0,
        "mo" => 1.0 / 12.0,
        "wk" => 7.0 / 365.25,
        "d" => 1.0 / 365.25,
        "h" => 1.0 / (24.0 * 365.25),
        _ => return None,
    };
    Some(number * in_years).filter(|years| (0.0..1000.0).contains(years))
}

fn add(date: Date, days: i64) -> Option<Date> {
    // jiff refuses spans beyond its calendar.
    let span = Span::new().try_days(days).ok()?;
    date.checked_add(span).ok().filter(|moved| moved.year() >= 1)
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn is_fraction(text: &str) -> bool {
    (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

/// The date, and whether it came in the old form with dots.
fn parse_date(text: &str) -> Option<(Date, bool)> {
    let dotted = text.len() == 10;
    let digits: String = match (text.len(), text.as_bytes()) {
        (8, _) => text.to_owned(),
        (10, [_, _, _, _, b'.', _, _, b'.', _, _]) => text.replace('.', ""),
        _ => return None,
    };
    let part = |from: usize, to: usize| digits.get(from..to).and_then(number);
    let date =
        Date::new(i16::try_from(part(0, 4)?).ok()?, i8::try_from(part(4, 6)?).ok()?, i8::try_from(part(6, 8)?).ok()?);
    date.ok().filter(|date| date.year() >= 1).map(|date| (date, dotted))
}

/// The pieces of a DT value: `YYYY[MM[DD[HH[MM[SS[.F]]]]]][&ZZXX]`.
struct DateTime<'a> {
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
    /// Time, fraction and zone as written.
    rest: &'a str,
}

impl<'a> DateTime<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (moment, zone) = match text.find(['+', '-']) {
            Some(at) => (text.get(..at)?, text.get(at..)),
            None => (text, None),
        };
        if zone.is_some_and(|zone| !is_timezone(zone)) {
            return None;
        }
        let digits = moment.split_once('.').map_or(moment, |(digits, _)| digits);
        if !matches!(digits.len(), 4 | 6 | 8 | 10 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let time = moment.get(8..).unwrap_or_default();
        if moment.len() > digits.len() && digits.len() != 14 || !time.is_empty() && !is_time(time) {
            return None;
        }
        let year = i16::try_from(number(digits.get(..4)?)?).ok().filter(|year| *year >= 1)?;
        let part = |from: usize| -> Option<Option<i8>> {
            match digits.get(from..from + 2) {
                Some(text) => Some(Some(i8::try_from(number(text)?).ok()?)),
                None => Some(None),
            }
        };
        let (month, day) = (part(4)?, part(6)?);
        Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
        let rest = text.get(digits.len().min(8)..).unwrap_or_default();
        Some(Self { year, month, day, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days_between(a: &str, b: &str) -> i64 {
        let date = |t: &str| parse_date(t).expect("date").0;
        i64::from((date(b) - date(a)).get_days())
    }

    #[test]
    fn intervals_between_dates_are_kept_for_two_centuries() {
        for offset in [-1, -28, -29, -30, -31, -365, -366, -1461, -3652, 1, 3652] {
            let mut date = Date::new(1900, 1, 1).expect("date");
            let text = |d: Date| format!("{:04}{:02}{:02}", d.year(), d.month(), d.day());
            let mut before: Option<String> = None;
            while date.year() < 2101 {
                let moved = shift_date(&text(date), offset).expect("in range");
                assert_eq!(days_between(&text(date), &moved), offset);
                if let Some(before) = before {
                    assert_eq!(days_between(&before, &moved), 1, "{moved}");
                }
                before = Some(moved);
                date = date.tomorrow().expect("tomorrow");
            }
        }
    }

    #[test]
    fn date_times_move_with_the_dates_and_keep_their_time() {
        for (text, days, expected) in [
            ("20200229235959.999999+0100", 1, "20200301235959.999999+0100"),
            ("20200301000000", -1, "20200229000000"),
            ("20210301", -1, "20210228"),
            ("2020030112", -1, "2020022912"),
            ("202003011230", -31, "202001301230"),
            ("202001", -31, "201912"),
            ("2020", -365, "2019"),
            ("2020-0500", -365, "2019-0500"),
            ("20200101000060", -1, "20191231000060"),
        ] {
            assert_eq!(shift_datetime(text, days).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(shift_date("1999.12.31", 1).as_deref(), Some("2000.01.01"));
        for day in ["19991231", "20000228", "20000229", "20001231", "21000228"] {
            for offset in [-3652, -31, -1] {
                let both = shift_datetime(&format!("{day}235959.5"), offset).expect("moved");
                assert_eq!(both, format!("{}235959.5", shift_date(day, offset).expect("moved")));
            }
        }
    }

    #[test]
    fn what_is_no_date_is_not_moved() {
        for text in [
            "",
            "2020",
            "20200230",
            "2020-01-31",
            "20200101-20200131",
            "Smith",
            "2020.1.31",
            "00000101",
            "２０２００１０１",
        ] {
            assert_eq!(shift_date(text, -1), None, "{text}");
        }
        assert_eq!(shift_date("00010101", -1), None);
        assert_eq!(shift_date("99991231", 1), None);
        assert_eq!(shift_date("20200101", i64::MAX), None);
        for text in [
            "",
            "20",
            "202013",
            "20200230",
            "2020010125",
            "202001011260",
            "2020010112.5",
            "20200101120000.",
            "20200101+9",
            "20200101120000.1234567",
            "20200101+1500",
            "20200101120000Smith",
            "20200101-20200131",
            "2020é",
        ] {
            assert_eq!(shift_datetime(text, -1), None, "{text}");
        }
    }

    #[test]
    fn times_and_zones() {
        for text in ["12", "1230", "123059", "123060", "123059.1", "235959.999999", "12:30:59", "12:30", "00"] {
            assert!(is_time(text), "{text}");
        }
        for text in ["", "1", "24", "1260", "123061", "123059.", "1230.5", "Smith", "12-30", "1:23:45", "12:3:59", "+1"]
        {
            assert!(!is_time(text), "{text}");
        }
        assert!(is_timezone("+0100") && is_timezone("-0330") && is_timezone("+1400"));
        assert!(!is_timezone("+1500") && !is_timezone("-1300") && !is_timezone("0100") && !is_timezone("+01é0"));
    }

    #[test]
    fn ages_above_89_are_90() {
        assert!(years(1080.0, "mo") == Some(90.0) && years(32_873.0, "d").is_some_and(|y| y > 90.0));
        assert!(years(1.0, "1").is_none() && years(f64::NAN, "a").is_none() && years(-1.0, "a").is_none());
        for (text, expected) in [
            ("089Y", "089Y"),
            ("090Y", "090Y"),
            ("102Y", "090Y"),
            ("999M", "999M"),
            ("999W", "999W"),
            ("999D", "999D"),
            ("000D", "000D"),
        ] {
            assert_eq!(capped_age(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "90Y", "90 Y", "old", "0950Y", "090y", "+90Y"] {
            assert_eq!(capped_age(text), None, "{text}");
        }
    }
}
