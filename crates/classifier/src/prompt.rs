//! Prompts: from a text to the model's input tokens, and the tokens that represent the classes.
//!
//! ```text
//! Classify the following text into one of the following classes:[Positive,Negative]<separator>Text:...<separator>Prediction:
//! ```
//!
//! The filled template is tokenized in one piece, because its parts merge with their neighbours; the
//! prefix that all rows share is then found by comparing ids.

mod classes;
mod control;
mod cut;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What prompts need of a tokenizer.
pub trait Encode {
    /// Token ids of `text`, without BOS. `parse_special` reads control tokens such as `<eos>` in the
    /// text; otherwise they are plain text.
    fn encode(&self, text: &str, parse_special: bool) -> Vec<u32>;
}

/// The codelab's question.
pub const CODELAB_QUESTION: &str = "Classify the following text into one of the following classes";
/// The codelab's separator: plain text, several tokens.
pub const CODELAB_SEPARATOR: &str = "<separator>";

/// A limit that leaves fewer tokens than this for the text is too low for its classes.
const LEAST_TEXT: usize = 64;
/// Tokens for the text where the limit follows the classes.
const USUAL_TEXT: usize = 160;

/// What is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[serde(default)]
pub struct PromptSpec {
    /// The question before the list of words.
    pub question: String,
    /// Between question, text and answer.
    pub separator: String,
    /// Words that represent classes; a class without one is represented by its name.
    pub words: Vec<ClassWord>,
    /// Solved examples before the text.
    pub examples: Vec<FewShot>,
    /// Wrap the prompt in the chat template of Gemma's instruct models.
    pub chat: bool,
    /// Read control tokens inside texts as such, as the reference does. A row can then steer the prompt.
    pub parse_control_tokens: bool,
    /// Longest prompt in tokens, BOS included. A longer text is truncated; the prompt's ending never is.
    pub max_tokens: usize,
}

impl Default for PromptSpec {
    fn default() -> Self {
        Self {
            question: CODELAB_QUESTION.into(),
            separator: CODELAB_SEPARATOR.into(),
            words: Vec::new(),
            examples: Vec::new(),
            chat: false,
            parse_control_tokens: false,
            max_tokens: 256,
        }
    }
}

impl PromptSpec {
    /// The codelab's prompt.
    pub fn codelab() -> Self {
        Self { max_tokens: 128, ..Self::default() }
    }

    /// Refuses a limit of tokens beyond what the model reads.
    pub fn check_limit(&self, positions: usize) -> Result<(), PromptError> {
        match self.max_tokens {
            limit if limit > positions => Err(PromptError::BeyondModel { limit, positions }),
            _ => Ok(()),
        }
    }

    /// The limit that these classes need: this prompt's own, or a longer one where the list of classes would
    /// leave hardly any room for a text. Never more than the `positions` that the model has.
    ///
    /// # Errors
    /// A prompt that cannot be made.
    pub fn limit_for(
        &self,
        classes: &[String],
        encoder: &dyn Encode,
        bos: Option<u32>,
        positions: usize,
    ) -> Result<usize, PromptError> {
        let open = Self { max_tokens: usize::MAX, ..self.clone() };
        let frame = Prompter::new(&open, classes, encoder, bos)?.encode_filled("").len();
        if frame >= positions {
            return Err(PromptError::NoRoom { frame, positions });
        }
        let limit = if frame + LEAST_TEXT > self.max_tokens {
            (frame + USUAL_TEXT).next_multiple_of(64)
        } else {
            self.max_tokens
        };
        Ok(limit.min(positions))
    }

    /// Splits `Label=Word` behind the longest class that fits, as labels may have equals signs; at the first
    /// one where none does. None without an equals sign.
    pub fn class_word(pair: &str, classes: &[String]) -> Option<ClassWord> {
        let split = |(at, _): (usize, &str)| (&pair[..at], &pair[at + 1..]);
        let mut all = pair.match_indices('=').map(split);
        let known = all.clone().rfind(|(class, _)| classes.iter().any(|c| c == class));
        let (class, word) = known.or_else(|| all.next())?;
        Some(ClassWord { class: class.to_owned(), word: word.to_owned() })
    }
}

/// A word for a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ClassWord {
    /// The class.
    pub class: String,
    /// What the model answers for it.
    pub word: String,
}

/// A solved example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct FewShot {
    /// Its text.
    pub text: String,
    /// Its class.
    pub class: String,
}

/// A prompt that cannot be made.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PromptError {
    /// A word or an example for a class that does not exist.
    #[error(
        "{what} for the class {class:?}, which is not among the labels {classes:?}; use one of these"
    )]
    UnknownClass {
        /// A word or an example.
        what: &'static str,
        /// The class named.
        class: String,
        /// The classes there are.
        classes: Vec<String>,
    },
    /// Two words for a class, or one word for two classes.
    #[error(
        "the word {word:?} stands for {first:?} and for {second:?}; give every class a word of its own"
    )]
    SameWord {
        /// The word.
        word: String,
        /// A class.
        first: String,
        /// Another.
        second: String,
    },
    /// An empty word.
    #[error("the class {0:?} has an empty word; give it one")]
    EmptyWord(String),
    /// No one-token code is left for a class.
    #[error(
        "{classes} classes, but the tokenizer has only {codes} one-token codes for them after this prompt: leave classes out, or change the separator"
    )]
    Codes {
        /// Classes.
        classes: usize,
        /// Codes found.
        codes: usize,
    },
    /// The words are one token each in isolation, but not after this prompt's ending.
    #[error("the answer {0:?} does not stay one token after every text; change the separator")]
    Unstable(String),
    /// The frame alone is too long.
    #[error("the prompt without any text has {frame} tokens, the limit is {limit}; shorten the question, words or examples, or raise the limit to {} or more", .frame + 32)]
    TooLong {
        /// Tokens without a text.
        frame: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame alone is longer than what the model reads.
    #[error(
        "the prompt without any text has {frame} tokens, and the model reads {positions} at most: give the classes shorter words (--word Label=Word), shorten the question, or leave classes out (--drop-class)"
    )]
    NoRoom {
        /// Tokens without a text.
        frame: usize,
        /// Tokens that the model reads.
        positions: usize,
    },
    /// The limit is beyond what the model reads.
    #[error(
        "a prompt of up to {limit} tokens is allowed, but the model reads {positions} at most: lower the limit (--max-tokens) to {positions} or less"
    )]
    BeyondModel {
        /// The limit.
        limit: usize,
        /// Tokens that the model reads.
        positions: usize,
    },
}

/// A filled prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptRow {
    /// Token ids `[T]`, BOS first. The last position's logits give the class.
    pub ids: Vec<u32>,
    /// Whether the text was truncated.
    pub cut: bool,
}

impl PromptRow {
    /// The position whose logits score the classes.
    pub fn label_position(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }
}

/// The prompts of many rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    /// One per text.
    pub rows: Vec<PromptRow>,
    /// Tokens at the start that are the same in all rows; every row has at least one more.
    pub prefix: usize,
    /// Rows whose text was truncated.
    pub cut: usize,
}

/// Makes prompts of one form.
pub struct Prompter<'t> {
    encoder: &'t dyn Encode,
    bos: Option<u32>,
    frame: Frame,
    class_tokens: Vec<u32>,
    answers: Vec<String>,
    max_tokens: usize,
}

/// The fixed text before and after a row's text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    before: Vec<Part>,
    after: Vec<Part>,
    /// Everything is parsed for control tokens, the text too.
    parse_all: bool,
}

/// Text that is taken as it is, or the chat template's control tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    Control(&'static str),
}

impl<'t> Prompter<'t> {
    /// Determines the classes' tokens: the words if each is one token after the prompt, otherwise codes
    /// (A, B, …) with a legend in the prompt.
    pub fn new(
        spec: &PromptSpec,
        classes: &[String],
        encoder: &'t dyn Encode,
        bos: Option<u32>,
    ) -> Result<Self, PromptError> {
        let words = classes::words(spec, classes)?;
        let make = |answers: Vec<String>, legend: bool| Self {
            encoder,
            bos,
            frame: Frame::new(spec, classes, &words, &answers, legend),
            class_tokens: Vec::new(),
            answers,
            max_tokens: spec.max_tokens,
        };
        let mut prompter = make(words.clone(), false);
        prompter.class_tokens = match classes::answer_tokens(&prompter, &prompter.answers) {
            Some(tokens) => tokens,
            None => {
                // codes are chosen after the ending alone: a long list of classes would only slow this down
                let codes = classes::codes(&make(Vec::new(), false), classes.len())?;
                prompter = make(codes, true);
                classes::answer_tokens(&prompter, &prompter.answers)
                    .ok_or_else(|| PromptError::Unstable(prompter.answers.join(", ")))?
            }
        };
        let frame = prompter.encode_filled("").len();
        if frame >= prompter.max_tokens {
            return Err(PromptError::TooLong { frame, limit: prompter.max_tokens });
        }
        Ok(prompter)
    }

    /// The token of each class `[C]`.
    pub fn class_tokens(&self) -> &[u32] {
        &self.class_tokens
    }

    /// What the model answers for each class `[C]`: its word, or its code.
    pub fn answers(&self) -> &[String] {
        &self.answers
    }

    /// The prompt as text, to be shown.
    pub fn fill(&self, text: &str) -> String {
        let part = |p: &Part| match p {
            Part::Plain(text) => text.clone(),
            Part::Control(token) => (*token).to_string(),
        };
        let before: String = self.frame.before.iter().map(part).collect();
        let after: String = self.frame.after.iter().map(part).collect();
        before + text + &after
    }

    /// The prompt of one text.
    pub fn row(&self, text: &str) -> PromptRow {
        cut::fit(self, text)
    }

    /// The prompts of many texts and their common prefix.
    pub fn rows<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Prompts {
        let rows: Vec<PromptRow> = texts.into_iter().map(|text| self.row(text)).collect();
        Prompts { prefix: common_prefix(&rows), cut: rows.iter().filter(|r| r.cut).count(), rows }
    }

    /// Tokens that prompts of this form usually start with, to be kept while rows arrive one by one.
    /// A row whose first token merges with the frame may differ: check that its ids start with these.
    pub fn usual_prefix(&self) -> Vec<u32> {
        let probes = self.rows(["a", "The", "1", "\"", "é", "@x"]);
        probes.rows[0].ids[..probes.prefix].to_vec()
    }

    /// Token ids, BOS first, of the prompt with `text` whole and `answer` behind it.
    fn encode_with(&self, text: &str, answer: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        if self.frame.parse_all {
            let filled = self.encoder.encode(&(self.fill(text) + answer), true);
            // A template may begin with its own BOS, which is not doubled.
            if filled.first() == self.bos.as_ref() {
                ids.clear();
            }
            ids.extend(filled);
            return ids;
        }
        let mut plain = String::new();
        let flush = |plain: &mut String, ids: &mut Vec<u32>| {
            if !plain.is_empty() {
                ids.extend(self.encoder.encode(plain, false));
                plain.clear();
            }
        };
        let text = [Part::Plain(text.to_string())];
        for part in self.frame.before.iter().chain(&text).chain(&self.frame.after) {
            match part {
                Part::Plain(text) => plain.push_str(text),
                Part::Control(token) => {
                    flush(&mut plain, &mut ids);
                    ids.extend(self.encoder.encode(token, true));
                }
            }
        }
        plain.push_str(answer);
        flush(&mut plain, &mut ids);
        ids
    }

    fn encode_filled(&self, text: &str) -> Vec<u32> {
        self.encode_with(text, "")
    }
}

impl Frame {
    fn new(
        spec: &PromptSpec,
        classes: &[String],
        words: &[String],
        answers: &[String],
        legend: bool,
    ) -> Self {
        let separator = &spec.separator;
        let list = if legend {
            answers
                .iter()
                .zip(words)
                .map(|(code, word)| format!("{code}={word}"))
                .collect::<Vec<_>>()
                .join(", ")
        } else {
            answers.join(",")
        };
        let question = spec.question.trim_end();
        let colon = if question.ends_with([':', '?', '.', '!']) { "" } else { ":" };
        let mut before = format!("{question}{colon}[{list}]{separator}");
        for example in &spec.examples {
            let class = classes.iter().position(|c| *c == example.class);
            let answer = class.and_then(|c| answers.get(c)).map_or("", String::as_str);
            before += &format!("Text:{}{separator}Prediction:{answer}{separator}", example.text);
        }
        before += "Text:";
        let (before, after) = if spec.chat {
            let before =
                vec![Part::Control("<start_of_turn>"), Part::Plain(format!("user\n{before}"))];
            let (end, start) = (Part::Control("<end_of_turn>"), Part::Control("<start_of_turn>"));
            (before, vec![end, Part::Plain("\n".into()), start, Part::Plain("model\n".into())])
        } else {
            (vec![Part::Plain(before)], vec![Part::Plain(format!("{separator}Prediction:"))])
        };
        Self { before, after, parse_all: spec.parse_control_tokens }
    }
}

/// Length of the longest prefix that all rows share and that leaves every row a token of its own.
fn common_prefix(rows: &[PromptRow]) -> usize {
    let Some((first, others)) = rows.split_first() else { return 0 };
    let shared =
        |row: &PromptRow| row.ids.iter().zip(&first.ids).take_while(|(a, b)| a == b).count();
    let shortest = rows.iter().map(|r| r.ids.len()).min().unwrap_or(0);
    others.iter().map(shared).min().unwrap_or(first.ids.len()).min(shortest.saturating_sub(1))
}

#[cfg(test)]
#[path = "prompt/tests.rs"]
mod tests;
