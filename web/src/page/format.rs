//! Numbers as people read them.

/// `247 MB`, `1.6 GB`; decimal units, as disks and downloads have them.
pub fn bytes(count: u64) -> String {
    let value = count as f64;
    match count {
        0..1_000 => format!("{count} bytes"),
        1_000..1_000_000 => format!("{:.0} kB", value / 1e3),
        1_000_000..10_000_000 => format!("{:.1} MB", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

/// `45 s`, `12 min`, `3 h 05 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0 => "under 1 s".to_owned(),
        1..90 => format!("{whole} s"),
        90..5_400 => format!("{} min", (whole + 30) / 60),
        _ => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
    }
}

/// `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
pub fn of(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { many })
}

/// `84%`; `0.4%` where less than one would read as none.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 1.0 { format!("{value:.1}%") } else { format!("{value:.0}%") }
}

/// `0.843`, or a dash.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// The first letter large, but for a file's name; a full stop at the end.
pub fn sentence(words: &str) -> String {
    let words = words.trim();
    let mut chars = words.chars();
    let Some(first) = chars.next() else { return String::new() };
    // `photo.csv: …`
    let named = words.split(' ').next().is_some_and(|word| word.ends_with(':'));
    let stop = if words.ends_with(['.', '?', '!', '…']) { "" } else { "." };
    if named {
        return format!("{words}{stop}");
    }
    first.to_uppercase().chain(chars).collect::<String>() + stop
}

/// `3, 7 and 12`, of many the first eight.
pub fn numbers(all: &[usize]) -> String {
    let shown: Vec<String> = all.iter().take(8).map(usize::to_string).collect();
    match (shown.split_last(), all.len()) {
        (None, _) => String::new(),
        (_, 9..) => format!("{}, …", shown.join(", ")),
        (Some((last, [])), _) => last.clone(),
        (Some((last, first)), _) => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(247_000_000), "247 MB");
        assert_eq!(bytes(1_570_000_000), "1.6 GB");
        assert_eq!(duration(89.4), "89 s");
        assert_eq!(duration(600.0), "10 min");
        assert_eq!(duration(11_100.0), "3 h 05 min");
        assert_eq!(duration(-1.0), "under 1 s");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(of(1, "row", "rows"), "1 row");
        assert_eq!(percent(0.004), "0.4%");
        assert_eq!(figure(None), "–");
    }

    #[wasm_bindgen_test]
    fn words_and_lists_read_well() {
        assert_eq!(sentence("all 3 rows have one label"), "All 3 rows have one label.");
        assert_eq!(sentence("which one?"), "Which one?");
        assert_eq!(sentence(" "), "");
        assert_eq!(numbers(&[3]), "3");
        assert_eq!(numbers(&[3, 7, 12]), "3, 7 and 12");
        assert_eq!(numbers(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), "1, 2, 3, 4, 5, 6, 7, 8, …");
    }
}
