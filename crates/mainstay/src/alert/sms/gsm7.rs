//! GSM 03.38's seven-bit alphabet: what every telephone shows, 160 to a message. One other character would make the message
//! cost and hold as much as 70, so everything else is written in letters that there are.

/// Characters of one septet beyond ASCII's letters, digits and the marks of [`is_plain`].
const BASIC: &str = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ¤¡ÄÖÑÜ§¿äöñüà";
/// Characters of two septets: an escape and one more.
const EXTENSION: &str = "^{}\\[~]|€";

/// Septets that a text takes, each character counted as it is sent.
pub(in crate::alert) fn septets(text: &str) -> usize {
    text.chars().map(|c| if EXTENSION.contains(c) { 2 } else { 1 }).sum()
}

/// Whether a character is in the alphabet.
pub(in crate::alert) fn is_known(c: char) -> bool {
    is_plain(c) || BASIC.contains(c) || EXTENSION.contains(c)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || " !\"#%&'()*+,-./:;<=>?".contains(c)
}

/// The text in the alphabet, on one line: letters lose the marks that there are not, signs become the nearest ones, and what
/// nobody could guess is a question mark.
pub(in crate::alert) fn transliterated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if is_known(c) {
            out.push(c);
        } else {
            out.push_str(nearest(c));
        }
    }
    out.trim().to_owned()
}

fn nearest(c: char) -> &'static str {
    match c {
        '…' => "...",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => "-",
        '“' | '”' | '„' | '‟' | '«' | '»' | '″' => "\"",
        '‘' | '’' | '‚' | '‛' | '′' | '`' | '´' | '‹' | '›' => "'",
        '→' | '⇒' => "->",
        '←' => "<-",
        '×' => "x",
        '÷' => ":",
        '•' | '·' | '●' | '○' => "*",
        '≤' => "<=",
        '≥' => ">=",
        '≠' => "!=",
        '±' => "+-",
        '°' => "o",
        '½' => "1/2",
        '™' => "TM",
        'á' | 'â' | 'ã' | 'ā' | 'ă' | 'ą' | 'ª' => "a",
        'Á' | 'À' | 'Â' | 'Ã' | 'Ā' | 'Ă' | 'Ą' => "A",
        'ç' | 'ć' | 'č' | 'ĉ' => "c",
        'Ć' | 'Č' | 'Ĉ' => "C",
        'ď' | 'đ' | 'ð' => "d",
        'Ď' | 'Đ' | 'Ð' => "D",
        'ê' | 'ë' | 'ē' | 'ė' | 'ę' | 'ě' => "e",
        'È' | 'Ê' | 'Ë' | 'Ē' | 'Ė' | 'Ę' | 'Ě' => "E",
        'ğ' | 'ģ' => "g",
        'Ğ' | 'Ģ' => "G",
        'í' | 'î' | 'ï' | 'ī' | 'į' | 'ı' => "i",
        'Í' | 'Ì' | 'Î' | 'Ï' | 'Ī' | 'Į' | 'İ' => "I",
        'ķ' => "k",
        'Ķ' => "K",
        'ł' | 'ľ' | 'ļ' | 'ĺ' => "l",
        'Ł' | 'Ľ' | 'Ļ' | 'Ĺ' => "L",
        'ń' | 'ň' | 'ņ' => "n",
        'Ń' | 'Ň' | 'Ņ' => "N",
        'ó' | 'ô' | 'õ' | 'ő' | 'ō' | 'º' => "o",
        'Ó' | 'Ò' | 'Ô' | 'Õ' | 'Ő' | 'Ō' => "O",
        'œ' => "oe",
        'Œ' => "OE",
        'ř' | 'ŕ' => "r",
        'Ř' | 'Ŕ' => "R",
        'ś' | 'š' | 'ş' | 'ș' => "s",
        'Ś' | 'Š' | 'Ş' | 'Ș' => "S",
        'ť' | 'ţ' | 'ț' => "t",
        'Ť' | 'Ţ' | 'Ț' => "T",
        'þ' => "th",
        'Þ' => "Th",
        'ú' | 'û' | 'ű' | 'ū' | 'ů' | 'ų' => "u",
        'Ú' | 'Ù' | 'Û' | 'Ű' | 'Ū' | 'Ů' | 'Ų' => "U",
        'ý' | 'ÿ' => "y",
        'Ý' | 'Ÿ' => "Y",
        'ź' | 'ž' | 'ż' => "z",
        'Ź' | 'Ž' | 'Ż' => "Z",
        // Marks that stand on the letter before, and characters without a width.
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200f}' | '\u{ad}' | '\u{feff}' | '\u{fe0f}' => "",
        _ => "?",
    }
}

/// The beginning of a text within so many septets; what was cut is shown by three dots.
pub(in crate::alert) fn cut(text: &str, most: usize) -> String {
    if septets(text) <= most {
        return text.to_owned();
    }
    let dots = most.min(3);
    let mut out = String::new();
    let mut left = most - dots;
    for c in text.chars() {
        let width = if EXTENSION.contains(c) { 2 } else { 1 };
        if width > left {
            break;
        }
        left -= width;
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out + &"..."[..dots]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signs_and_letters_become_the_nearest_that_there_are() {
        assert_eq!(transliterated("“app–2” … it’s dead"), "\"app-2\" ... it's dead");
        assert_eq!(
            transliterated("Bücherei Łódź, São Paulo, garçon, Ångström"),
            "Bücherei Lodz, Sao Paulo, garcon, Ångström"
        );
        assert_eq!(transliterated("a\r\nb\t\u{a0}c 日本 😀"), "a b c ?? ?");
        assert_eq!(transliterated("cafe\u{301}"), "cafe");
    }

    #[test]
    fn brackets_and_the_euro_take_two() {
        assert_eq!(septets("[shop] 5€"), 12);
        assert_eq!(septets("Δ_@ß"), 4);
    }

    #[test]
    fn what_is_cut_says_so_and_never_splits_a_character_in_two() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc...");
        assert_eq!(cut("[[[[", 6), "[...");
        assert_eq!(cut("abcdefg", 2), "..");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_only_the_alphabet_comes_out(text in ".{0,300}", most in 0usize..200) {
            let out = transliterated(&text);
            prop_assert!(out.chars().all(is_known), "{out:?}");
            prop_assert!(septets(&cut(&out, most)) <= most);
        }
    }
}
