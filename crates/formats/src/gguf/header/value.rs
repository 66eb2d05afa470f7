//! Metadata values and how they are read as Rust types.

use std::borrow::Cow;

/// A metadata value. Small integers are widened, which is lossless.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32.
    F32(f32),
    /// f64.
    F64(f64),
    /// bool.
    Bool(bool),
    /// A string.
    Text(String),
    /// An array of u8, u16, u32 or bool.
    U32s(Vec<u32>),
    /// An array of u64.
    U64s(Vec<u64>),
    /// An array of i8, i16 or i32.
    I32s(Vec<i32>),
    /// An array of i64.
    I64s(Vec<i64>),
    /// An array of f32.
    F32s(Vec<f32>),
    /// An array of f64.
    F64s(Vec<f64>),
    /// An array of strings.
    Texts(Strings),
}

impl Value {
    /// A description of the value for an error.
    pub fn describe(&self) -> String {
        match self {
            Self::Unsigned(value) => format!("the integer {value}"),
            Self::Signed(value) => format!("the integer {value}"),
            Self::F32(value) => format!("the number {value}"),
            Self::F64(value) => format!("the number {value}"),
            Self::Bool(value) => format!("the bool {value}"),
            Self::Text(value) if value.len() <= 40 => format!("the string '{value}'"),
            Self::Text(value) => format!("a string of {} bytes", value.len()),
            Self::U32s(values) => format!("an array of {} integers", values.len()),
            Self::U64s(values) => format!("an array of {} integers", values.len()),
            Self::I32s(values) => format!("an array of {} integers", values.len()),
            Self::I64s(values) => format!("an array of {} integers", values.len()),
            Self::F32s(values) => format!("an array of {} numbers", values.len()),
            Self::F64s(values) => format!("an array of {} numbers", values.len()),
            Self::Texts(values) => format!("an array of {} strings", values.len()),
        }
    }
}

/// A Rust type that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// The type in words, for an error: "a string".
    const EXPECTED: &'static str;

    /// The value as this type, or `None` if it is of another type or does not fit.
    fn from_value(value: &'a Value) -> Option<Self>;
}

/// `FromValue` for one type: words for errors, and the patterns that fit.
macro_rules! from_value {
    ($type:ty, $expected:literal, $($pattern:pat => $result:expr),+) => {
        impl<'a> FromValue<'a> for $type {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $($pattern => $result,)+
                    _ => None,
                }
            }
        }
    };
}

from_value!(u32, "an integer from 0 to 2^32 - 1",
    Value::Unsigned(value) => u32::try_from(*value).ok(),
    Value::Signed(value) => u32::try_from(*value).ok());
from_value!(u64, "an integer from 0 to 2^64 - 1",
    Value::Unsigned(value) => Some(*value),
    Value::Signed(value) => u64::try_from(*value).ok());
from_value!(f32, "a number",
    Value::F32(value) => Some(*value),
    Value::F64(value) => Some(*value as f32),
    Value::Unsigned(value) => Some(*value as f32),
    Value::Signed(value) => Some(*value as f32));
from_value!(bool, "true or false",
    Value::Bool(value) => Some(*value),
    Value::Unsigned(value @ 0..=1) => Some(*value == 1),
    Value::Signed(value @ 0..=1) => Some(*value == 1));
from_value!(&'a str, "a string", Value::Text(value) => Some(value));
from_value!(&'a Strings, "an array of strings", Value::Texts(values) => Some(values));
from_value!(Cow<'a, [f32]>, "an array of numbers",
    Value::F32s(values) => Some(values.into()),
    Value::F64s(values) => Some(values.iter().map(|value| *value as f32).collect()),
    Value::U32s(values) => Some(values.iter().map(|value| *value as f32).collect()),
    Value::I32s(values) => Some(values.iter().map(|value| *value as f32).collect()));
from_value!(Vec<i64>, "an array of integers",
    Value::U32s(values) => Some(values.iter().map(|value| i64::from(*value)).collect()),
    Value::I32s(values) => Some(values.iter().map(|value| i64::from(*value)).collect()),
    Value::I64s(values) => Some(values.clone()),
    Value::U64s(values) => values.iter().map(|value| i64::try_from(*value).ok()).collect());

/// Many strings in two allocations. Gemma 3's vocabulary is 262,144 strings of 8 bytes each on
/// average; as `Vec<String>` it would take four times as much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<u32>,
}

impl Strings {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)? as usize,
        };
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Appends a string. Returns `false`, and changes nothing, if 4 GiB would be exceeded.
    pub fn push(&mut self, string: &str) -> bool {
        let Ok(end) = u32::try_from(self.text.len() as u64 + string.len() as u64) else {
            return false;
        };
        self.text.push_str(string);
        self.ends.push(end);
        true
    }

    /// Releases unused memory.
    pub fn shrink_to_fit(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::default();
        for string in strings {
            all.push(string.as_ref());
        }
        all
    }
}
