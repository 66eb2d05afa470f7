//! The time of day, for reports.

use jiff::Timestamp;

/// `2026-03-01 14:05 UTC`
pub fn now() -> String {
    words(Timestamp::now())
}

fn words(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let all = [0, 951_782_399, 951_782_400, 1_772_373_900]
            .map(|seconds| words(Timestamp::from_second(seconds).unwrap()));
        assert_eq!(
            all,
            [
                "1970-01-01 00:00 UTC",
                "2000-02-28 23:59 UTC",
                "2000-02-29 00:00 UTC",
                "2026-03-01 14:05 UTC"
            ]
        );
    }
}
