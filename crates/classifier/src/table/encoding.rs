//! The names of encodings: all of the Encoding Standard, and what programs call them.

use encoding_rs::Encoding;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a file writes its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "string"))]
pub struct TextEncoding(&'static Encoding);

/// Every encoding that can be named: the Encoding Standard's, but for those that are no text.
pub const ENCODINGS: [&str; 38] = [
    "UTF-8",
    "UTF-16LE",
    "UTF-16BE",
    "windows-1252",
    "windows-1250",
    "windows-1251",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "windows-874",
    "Shift_JIS",
    "EUC-JP",
    "ISO-2022-JP",
    "GBK",
    "gb18030",
    "Big5",
    "EUC-KR",
    "KOI8-R",
    "KOI8-U",
    "IBM866",
    "macintosh",
    "x-mac-cyrillic",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-4",
    "ISO-8859-5",
    "ISO-8859-6",
    "ISO-8859-7",
    "ISO-8859-8",
    "ISO-8859-8-I",
    "ISO-8859-10",
    "ISO-8859-13",
    "ISO-8859-14",
    "ISO-8859-15",
    "ISO-8859-16",
];

/// Names that other programs use and the Encoding Standard lacks; letters and digits only.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("utf8sig", "UTF-8"),
    ("utf16", "UTF-16LE"),
    ("unicode", "UTF-16LE"),
    ("ansi", "windows-1252"),
    ("mbcs", "windows-1252"),
    ("cp932", "Shift_JIS"),
    ("sjis", "Shift_JIS"),
    ("cp936", "GBK"),
    ("cp949", "EUC-KR"),
    ("uhc", "EUC-KR"),
    ("cp950", "Big5"),
    ("cp874", "windows-874"),
    ("macroman", "macintosh"),
    ("maccyrillic", "x-mac-cyrillic"),
];

impl TextEncoding {
    /// UTF-8, with or without a byte order mark.
    pub fn utf8() -> Self {
        Self(encoding_rs::UTF_8)
    }

    /// UTF-16, low byte first.
    pub fn utf16_le() -> Self {
        Self(encoding_rs::UTF_16LE)
    }

    /// UTF-16, high byte first.
    pub fn utf16_be() -> Self {
        Self(encoding_rs::UTF_16BE)
    }

    /// Windows' western code page; contains the letters of Latin-1.
    pub fn windows_1252() -> Self {
        Self(encoding_rs::WINDOWS_1252)
    }

    /// The encoding of a name such as `cp1252`, `latin-1`, `gbk` or `utf-8-sig`.
    pub fn named(name: &str) -> Option<Self> {
        let letters = |text: &str| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
        };
        let wanted = letters(name);
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == wanted).map(|(_, name)| *name);
        let spelled = || ENCODINGS.into_iter().find(|known| letters(known) == wanted);
        let found = Encoding::for_label_no_replacement(other.unwrap_or(name).as_bytes())
            .or_else(|| Encoding::for_label_no_replacement(wanted.as_bytes()))
            .or_else(|| Encoding::for_label_no_replacement(spelled()?.as_bytes()));
        found.filter(|e| *e != encoding_rs::X_USER_DEFINED).map(Self)
    }

    /// Its name in the Encoding Standard.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// UTF-16, either byte first.
    pub fn is_utf16(self) -> bool {
        self == Self::utf16_le() || self == Self::utf16_be()
    }

    pub(super) fn inner(self) -> &'static Encoding {
        self.0
    }

    pub(super) fn of(encoding: &'static Encoding) -> Self {
        Self(encoding)
    }
}

impl Serialize for TextEncoding {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TextEncoding {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let unknown = || serde::de::Error::custom(format!("there is no encoding {name:?}"));
        Self::named(&name).ok_or_else(unknown)
    }
}

/// The encoding in use, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct EncodingChoice {
    /// The encoding.
    pub encoding: TextEncoding,
    /// How it is known.
    pub known: EncodingKnown,
}

/// How an encoding is known, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum EncodingKnown {
    /// The caller named it.
    Given,
    /// The file begins with a byte order mark.
    Mark,
    /// Every byte is ASCII, which all of these encodings share.
    Ascii,
    /// Every byte fits UTF-8, which hardly ever happens by chance.
    Fits,
    /// Every second byte is zero, as in UTF-16 without a mark.
    Zeros,
    /// The letters look like it. The user is warned.
    Guessed,
}

impl EncodingKnown {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Given => "as given",
            Self::Mark => "by its byte order mark",
            Self::Ascii => "every byte is ASCII",
            Self::Fits => "every byte fits",
            Self::Zeros => "guessed: every second byte is zero",
            Self::Guessed => "guessed from its characters",
        }
    }

    /// Whether it may be wrong.
    pub fn is_guess(self) -> bool {
        matches!(self, Self::Zeros | Self::Guessed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_has_its_name() {
        for name in ENCODINGS {
            assert_eq!(TextEncoding::named(name).map(TextEncoding::name), Some(name));
        }
    }

    #[test]
    fn names_of_other_programs() {
        for (name, expected) in [
            ("latin-1", "windows-1252"),
            ("utf_8_sig", "UTF-8"),
            ("UTF16", "UTF-16LE"),
            ("windows1252", "windows-1252"),
            ("cp1251", "windows-1251"),
            ("euc_kr", "EUC-KR"),
            ("utf16-le", "UTF-16LE"),
            ("shift-jis", "Shift_JIS"),
            ("mac_roman", "macintosh"),
        ] {
            assert_eq!(TextEncoding::named(name).map(TextEncoding::name), Some(expected), "{name}");
        }
        for name in ["", "utf-9", "replacement", "x-user-defined", "hz-gb-2312"] {
            assert_eq!(TextEncoding::named(name), None, "{name}");
        }
        let json = serde_json::to_string(&TextEncoding::utf16_be()).unwrap();
        assert_eq!(json, "\"UTF-16BE\"");
        assert_eq!(serde_json::from_str::<TextEncoding>(&json).unwrap(), TextEncoding::utf16_be());
    }
}
