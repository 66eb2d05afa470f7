//! Control tokens that somebody wrote into the parts of a prompt.

use super::PromptSpec;

/// Every prompt begins with it.
const BOS: &str = "<bos>";
/// Gemma's other control tokens that people know from chat templates.
const OTHERS: [&str; 4] = ["<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"];

impl PromptSpec {
    /// Without a `<bos>` at the beginning, which every prompt has anyway: a second one changes the answers.
    pub fn without_own_bos(mut self) -> Self {
        while let Some(rest) = self.question.trim_start().strip_prefix(BOS) {
            self.question = rest.to_owned();
        }
        self
    }

    /// What to tell of control tokens in question, separator, words and examples, in words.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let own = self.question.trim_start().starts_with(BOS);
        if own {
            notes.push(
                "the question begins with its own <bos>, which is left out: every prompt begins with that token"
                    .to_owned(),
            );
        }
        let open = self.clone().without_own_bos();
        let words = self.words.iter().map(|word| ("a word", word.word.as_str()));
        let examples = self.examples.iter().map(|example| ("an example", example.text.as_str()));
        let parts = [("the question", open.question.as_str()), ("the separator", &self.separator)];
        for (part, text) in parts.into_iter().chain(words).chain(examples) {
            let is_there = |token: &&str| !self.parse_control_tokens && text.contains(*token);
            let found: Vec<&str> =
                [BOS].into_iter().chain(OTHERS).filter(|token| is_there(token)).collect();
            if !found.is_empty() {
                notes.push(format!(
                    "{part} has {}, which the model reads as letters there, not as a control token; the turns of a chat \
                     are put around the whole prompt by a chat template (--chat, or \"Chat template\" on the page)",
                    found.join(" and ")
                ));
            }
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bos_of_ones_own_is_told_and_left_out() {
        let spec =
            |question: &str| PromptSpec { question: question.into(), ..PromptSpec::default() };
        for question in ["<bos>Is it rude", " <bos> <bos>Is it rude"] {
            let spec = spec(question);
            assert_eq!(spec.notes().len(), 1, "{:?}", spec.notes());
            assert!(spec.notes()[0].contains("begins with its own <bos>"), "{:?}", spec.notes());
            let open = spec.without_own_bos();
            assert_eq!((open.question.as_str(), open.notes()), ("Is it rude", vec![]));
        }
        assert_eq!(PromptSpec::default().notes(), Vec::<String>::new());
        assert_eq!(PromptSpec::default().without_own_bos(), PromptSpec::default());
    }

    #[test]
    fn control_tokens_that_would_be_letters_are_told() {
        let question = "<bos><start_of_turn>user\nIs it rude<end_of_turn>".to_owned();
        let spec = PromptSpec { question, separator: "<eos>".into(), ..PromptSpec::default() };
        let notes = spec.notes();
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[1].starts_with("the question has <start_of_turn> and <end_of_turn>"));
        assert!(notes[2].starts_with("the separator has <eos>"), "{notes:?}");
        // where the whole prompt is read for control tokens they are such
        let parsed = PromptSpec { parse_control_tokens: true, ..spec };
        assert_eq!(parsed.notes().len(), 1, "{:?}", parsed.notes());
    }
}
