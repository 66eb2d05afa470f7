//! Texts that were damaged before they came here: letters that were lost when a file was saved, and UTF-8 that was
//! once opened as Windows-1252. Nothing is changed, the user is told.

use encoding_rs::WINDOWS_1252;

/// What looks damaged in a text, in words.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let lost: Vec<usize> =
        lines(text).filter(|(_, l)| l.contains('\u{FFFD}')).map(|(n, _)| n).collect();
    if let Some(first) = lost.first() {
        all.push(format!(
            "line {first}: the character U+FFFD (\u{FFFD}) marks characters that were lost when the file was saved ({} such \
             lines); get the texts from their source again",
            lost.len()
        ));
    }
    let mut beyond_ascii = 0;
    let mut twice = Vec::new();
    for (number, line) in lines(text).filter(|(_, line)| !line.is_ascii()) {
        beyond_ascii += 1;
        twice.extend(read_twice(line).map(|fixed| (number, line, fixed)));
    }
    if let Some((number, line, fixed)) = twice.first().filter(|_| twice.len() * 2 >= beyond_ascii) {
        let cut = |text: &str| text.chars().take(60).collect::<String>();
        all.push(format!(
            "line {number}: {:?} looks like UTF-8 that was opened and saved as Windows-1252 ({} such lines); it \
             was probably {:?}: get the texts from their source again",
            cut(line),
            twice.len(),
            cut(fixed)
        ));
    }
    all
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line))
}

/// What a line was before its UTF-8 was read as Windows-1252; none where it was not.
fn read_twice(line: &str) -> Option<String> {
    let (bytes, _, lossy) = WINDOWS_1252.encode(line);
    let fixed = std::str::from_utf8(&bytes).ok()?;
    (!lossy && fixed.chars().count() < line.chars().count()).then(|| fixed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_and_sound_text_is_not() {
        for sound in [
            "plain",
            "sch\u{f6}n,gut\nna\u{ef}ve,so",
            "\u{65e5}\u{672c},a",
            "\u{c3}\u{a9}\nMÜNCHEN é\nÄ é",
        ] {
            assert_eq!(words(sound), Vec::<String>::new(), "{sound}");
        }
        let twice = words("text,label\ntrÃ¨s bien,bon\nplain,mauvais\n");
        assert!(twice[0].starts_with("line 2: \"trÃ¨s bien,bon\" looks like UTF-8"), "{twice:?}");
        assert!(twice[0].contains("probably \"très bien,bon\""), "{twice:?}");
        let lost = words("text,label\na\u{FFFD}b,x\nc\u{FFFD},y\n");
        assert!(lost[0].starts_with("line 2: ") && lost[0].contains("2 such lines"), "{lost:?}");
    }
}
