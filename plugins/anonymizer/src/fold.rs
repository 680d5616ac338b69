//! [`fold`]: one spelling of a text for comparing names: people leave out accents, type other dashes, and switch between
//! the widths and syllabaries of Japanese.
//!
//! Letters become lower case, Latin, Greek and Cyrillic ones lose their marks (precomposed ones by the list here, others by
//! dropping the combining marks), full-width forms become ASCII, Katakana of both widths become Hiragana, and the many
//! apostrophes and hyphens become `'` and `-`. It is no Unicode normalisation and is not for showing to people.

/// Letters, and what they are without their marks.
const LETTERS: [(&str, &str); 39] = [
    ("a", "àáâãäåāăąǎạảấầẩẫậắằẳẵặ"),
    ("ae", "æǽ"),
    ("c", "çćĉċč"),
    ("d", "ďđð"),
    ("e", "èéêëēĕėęěẹẻẽếềểễệ"),
    ("g", "ĝğġģǧ"),
    ("h", "ĥħ"),
    ("i", "ìíîïĩīĭįıǐỉị"),
    ("j", "ĵ"),
    ("k", "ķǩ"),
    ("l", "ĺļľŀł"),
    ("n", "ñńņňŋ"),
    ("o", "òóôõöøōŏőơǒọỏốồổỗộớờởỡợ"),
    ("oe", "œ"),
    ("r", "ŕŗř"),
    ("s", "śŝşšș"),
    ("ss", "ß"),
    ("t", "ţťŧț"),
    ("th", "þ"),
    ("u", "ùúûüũūŭůűųưǔụủứừửữự"),
    ("w", "ŵẁẃẅ"),
    ("y", "ýÿŷỳỵỷỹ"),
    ("z", "źżž"),
    ("α", "ά"),
    ("ε", "έ"),
    ("η", "ή"),
    ("ι", "ίϊΐ"),
    ("ο", "ό"),
    ("σ", "ς"),
    ("υ", "ύϋΰ"),
    ("ω", "ώ"),
    ("г", "ґѓ"),
    ("е", "ёѐ"),
    ("и", "йѝ"),
    ("і", "ї"),
    ("к", "ќ"),
    ("у", "ў"),
    ("'", "’‘‛ʼʻʹ′`´"),
    ("-", "‐‑‒–—−﹣"),
];

/// Hiragana for the Katakana of half width, from U+FF66.
const HALF_WIDTH: &str =
    "をぁぃぅぇぉゃゅょっーあいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわん";
const VOICED: [char; 2] = ['\u{ff9e}', '\u{3099}'];
const HALF_VOICED: [char; 2] = ['\u{ff9f}', '\u{309a}'];

/// The spelling of a text that is compared.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase().replace('`', "'");
    }
    let mut folded = String::with_capacity(text.len());
    for c in text.chars().map(full_width_as_ascii).flat_map(char::to_lowercase) {
        match c {
            '\u{0300}'..='\u{036f}' => {}
            c if VOICED.contains(&c) || HALF_VOICED.contains(&c) => {
                let voiced = folded.pop().map(|kana| voice(kana, VOICED.contains(&c)));
                folded.extend(voiced);
            }
            '\u{30a1}'..='\u{30f6}' => folded.extend(char::from_u32(u32::from(c) - 0x60)),
            '\u{ff66}'..='\u{ff9d}' => folded.extend(HALF_WIDTH.chars().nth(u32::from(c) as usize - 0xff66)),
            c if c.is_ascii() && c != '`' => folded.push(c),
            c => match LETTERS.iter().find(|(_, marked)| marked.contains(c)) {
                Some((plain, _)) => folded.push_str(plain),
                None => folded.push(c),
            },
        }
    }
    folded
}

fn full_width_as_ascii(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        c => c,
    }
}

/// A syllable with its mark: `か` and `が` are neighbours, `は`, `ば` and `ぱ` too.
fn voice(kana: char, voiced: bool) -> char {
    let by = match kana {
        'は' | 'ひ' | 'ふ' | 'へ' | 'ほ' => 2 - u32::from(voiced),
        'か'..='と' if voiced => 1,
        'う' if voiced => u32::from('ゔ') - u32::from('う'),
        _ => 0,
    };
    char::from_u32(u32::from(kana) + by).unwrap_or(kana)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_name_are_one() {
        for (spellings, folded) in [
            (&["MÜLLER", "Mu\u{308}ller", "muller", "ＭÜller"][..], "muller"),
            (&["Ørsted", "ORSTED"], "orsted"),
            (&["Łukasz Żółć", "Lukasz Zolc"], "lukasz zolc"),
            (&["Weiß", "WEISS"], "weiss"),
            (&["Nguyễn", "Nguyê\u{303}n", "NGUYEN"], "nguyen"),
            (&["İpek", "IPEK"], "ipek"),
            (&["O’Brien", "O'Brien", "O`BRIEN", "o´brien"], "o'brien"),
            (&["Lüdenscheidt–Berg", "ludenscheidt-berg"], "ludenscheidt-berg"),
            (&["Семёнов", "Семенов"], "семенов"),
            (&["Παπαδόπουλος", "ΠΑΠΑΔΟΠΟΥΛΟΣ"], "παπαδοπουλοσ"),
            (&["ﾔﾏﾀﾞ　ﾀﾛｳ", "ヤマダ タロウ", "やまだ たろう"], "やまだ たろう"),
            (&["ﾊﾟﾋﾞﾎ", "パビホ"], "ぱびほ"),
            (&["山田＾太郎１", "山田^太郎1"], "山田^太郎1"),
            (&["김철수"], "김철수"),
        ] {
            for spelling in spellings {
                assert_eq!(fold(spelling), folded, "{spelling}");
            }
        }
    }

    #[test]
    fn folding_twice_changes_nothing() {
        for (plain, marked) in LETTERS {
            assert_eq!(fold(plain), plain);
            assert!(marked.chars().all(|c| fold(&c.to_string()) == plain), "{marked}");
        }
        let half: String = ('\u{ff66}'..='\u{ff9d}').collect();
        assert_eq!(fold(&half), HALF_WIDTH);
    }
}
