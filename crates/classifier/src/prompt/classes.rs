//! Which token stands for which class (D12): ids(prompt + answer) = ids(prompt) + one id.

use super::{PromptError, PromptSpec, Prompter};

/// The word of every class: the one given, or the class itself.
pub(super) fn words(spec: &PromptSpec, classes: &[String]) -> Result<Vec<String>, PromptError> {
    let unknown = |what, class: &String| PromptError::UnknownClass {
        what,
        class: class.clone(),
        classes: classes.to_vec(),
    };
    let mut words = classes.to_vec();
    for given in &spec.words {
        let place = classes.iter().position(|c| *c == given.class);
        words[place.ok_or_else(|| unknown("a word", &given.class))?] = given.word.clone();
    }
    if let Some(example) = spec.examples.iter().find(|e| !classes.contains(&e.class)) {
        return Err(unknown("an example", &example.class));
    }
    for (i, word) in words.iter().enumerate() {
        if word.trim().is_empty() {
            return Err(PromptError::EmptyWord(classes[i].clone()));
        }
        if let Some(j) = words[..i].iter().position(|w| w == word) {
            let (first, second) = (classes[j].clone(), classes[i].clone());
            return Err(PromptError::SameWord { word: word.clone(), first, second });
        }
    }
    Ok(words)
}

/// Texts after which an answer must stay the same one token.
const PROBES: [&str; 4] = ["", "a", "That is fine.", "\"so\"\n"];

/// The token of each answer; none unless each is one token after every probe, and all differ.
pub(super) fn answer_tokens(prompter: &Prompter<'_>, answers: &[String]) -> Option<Vec<u32>> {
    let tokens: Option<Vec<u32>> =
        answers.iter().map(|answer| answer_token(prompter, answer, &PROBES)).collect();
    tokens.filter(|tokens| (1..tokens.len()).all(|i| !tokens[..i].contains(&tokens[i])))
}

fn answer_token(prompter: &Prompter<'_>, answer: &str, probes: &[&str]) -> Option<u32> {
    let mut token = None;
    for probe in probes {
        let prompt = prompter.encode_filled(probe);
        let answered = prompter.encode_with(probe, answer);
        let (&last, start) = answered.split_last()?;
        if start != prompt || token.is_some_and(|t| t != last) {
            return None;
        }
        token = Some(last);
    }
    token
}

/// `count` distinct one-token codes: letters, then pairs of letters.
pub(super) fn codes(prompter: &Prompter<'_>, count: usize) -> Result<Vec<String>, PromptError> {
    let letters = |start: char| (start..).take(26);
    let pairs = |start: char| {
        letters(start).flat_map(move |a| letters(start).map(move |b| format!("{a}{b}")))
    };
    let candidates = letters('A').map(String::from).chain(pairs('A')).chain(pairs('a'));
    let (mut codes, mut tokens) = (Vec::new(), Vec::new());
    for code in candidates {
        if codes.len() == count {
            break;
        }
        // one probe is enough to choose; the chosen ones are checked on all
        if let Some(token) =
            answer_token(prompter, &code, &PROBES[..1]).filter(|t| !tokens.contains(t))
        {
            codes.push(code);
            tokens.push(token);
        }
    }
    if codes.len() < count {
        Err(PromptError::Codes { classes: count, codes: codes.len() })
    } else {
        Ok(codes)
    }
}
