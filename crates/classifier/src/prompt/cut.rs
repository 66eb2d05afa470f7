//! Truncates a text, never the prompt's ending, so that the prompt fits its limit.

use super::{Part, PromptRow, Prompter};

/// A text is first looked at up to this many bytes for each token it may have, and on from there.
const BYTES_A_TOKEN: usize = 16;
/// How far to look back for a cut between two of the text's own tokens, in characters.
const LOOK_BACK: usize = 64;

/// The prompt of as much of `text` as fits.
pub(super) fn fit(prompter: &Prompter<'_>, text: &str) -> PromptRow {
    let limit = prompter.max_tokens;
    let ids_of = |end: usize| prompter.encode_filled(&text[..end]);
    // a very long text is not tokenized whole
    let mut end = text.floor_char_boundary(limit.saturating_mul(BYTES_A_TOKEN));
    let mut ids = ids_of(end);
    while ids.len() <= limit && end < text.len() {
        end = text.floor_char_boundary(end.saturating_mul(2).max(4));
        ids = ids_of(end);
    }
    if ids.len() <= limit {
        return PromptRow { ids, cut: false };
    }
    let (mut fits, mut too_long) = (0, end);
    loop {
        let middle = text.floor_char_boundary(usize::midpoint(fits, too_long));
        if middle <= fits {
            break;
        }
        *(if ids_of(middle).len() <= limit { &mut fits } else { &mut too_long }) = middle;
    }
    // between two whole tokens: the cut prompt starts like the uncut one
    let ending = ending_tokens(prompter);
    let boundaries = (0..=fits).rev().filter(|&i| text.is_char_boundary(i)).take(LOOK_BACK);
    for end in boundaries {
        let cut = ids_of(end);
        let same = cut.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        if cut.len() <= limit && same + ending >= cut.len() {
            return PromptRow { ids: cut, cut: true };
        }
    }
    PromptRow { ids: ids_of(fits), cut: true }
}

/// Number of tokens of the ending alone.
fn ending_tokens(prompter: &Prompter<'_>) -> usize {
    let tokens = |part: &Part| match part {
        Part::Plain(text) => prompter.encoder.encode(text, false).len(),
        Part::Control(token) => prompter.encoder.encode(token, true).len(),
    };
    prompter.frame.after.iter().map(tokens).sum()
}
