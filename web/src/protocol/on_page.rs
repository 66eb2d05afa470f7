//! Texts that the command line shows too, as the page shows them.

/// A text without the command line's options. The crates name them in parentheses that begin with one: `(--label)` is
/// left out, and of `(--encoding NAME, or "Encoding" on the page)` remains `("Encoding")`.
pub fn on_page(text: &str) -> String {
    const BEGIN: &str = " (--";
    const PAGE: &str = " on the page";
    let (mut told, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(BEGIN) {
        told.push_str(&rest[..at]);
        let group = &rest[at..];
        let group = &group[..closed(group)];
        rest = &rest[at + group.len()..];
        let named = group.find(PAGE).and_then(|end| {
            let name = group[..end].strip_suffix('"')?;
            Some((name.rfind('"')?, end))
        });
        if let Some((from, end)) = named {
            told.extend([" (", &group[from..end], &group[end + PAGE.len()..]]);
        }
    }
    told + rest
}

/// Bytes up to the end of the parentheses that a text begins with, what stands in quotes passed over.
fn closed(text: &str) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', None) => escaped = true,
            (')', None) => return at + 1,
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if open == c => quote = None,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn options_of_the_command_line_are_left_out() {
        for (told, shown) in [
            ("no label column (--label)", "no label column"),
            ("a (b) c", "a (b) c"),
            (
                "set its encoding (--encoding NAME, or \"Encoding\" on the page; windows-1252 accepts every byte), or save it",
                "set its encoding (\"Encoding\"; windows-1252 accepts every byte), or save it",
            ),
            (
                "leave it out (--drop-class 'a (b)'\\'' c'), or a number (--cut) or median (--median) of it",
                "leave it out, or a number or median of it",
            ),
            ("say so (--quote \"'\"); or say so (--escape '\\'): both", "say so; or say so: both"),
            ("torn (--quote 'x", "torn"),
        ] {
            assert_eq!(on_page(told), shown);
        }
    }
}
