//! Texts that occur several times: where, and whether their labels agree.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Example, plain_form};

/// Texts that occur several times among all rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Rows whose text is the same as an earlier row's.
    pub exact: usize,
    /// Rows whose text is an earlier row's but for letter case, blanks and normal form.
    pub alike: usize,
    /// Texts with different labels, the first of them.
    pub contradictions: Vec<Contradiction>,
    /// All texts with different labels.
    pub contradicting: usize,
}

/// Two rows of one text with different labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// Their lines in the file.
    pub lines: [u64; 2],
    /// Their classes.
    pub classes: [String; 2],
    /// The text, cut.
    pub text: String,
}

/// Contradictions that are listed.
const LISTED: usize = 5;

impl Repeats {
    /// Among the examples; with them the group of each example: equal texts have equal numbers.
    pub fn among(examples: &[Example], classes: &[String]) -> (Self, Vec<usize>) {
        let mut repeats = Self::default();
        let mut exact: HashMap<&str, usize> = HashMap::new();
        let mut groups: HashMap<String, (usize, bool)> = HashMap::new();
        let mut group_of = Vec::with_capacity(examples.len());
        for (i, example) in examples.iter().enumerate() {
            let same = exact.insert(&example.text, i).is_some();
            let (first, told) = groups.entry(plain_form(&example.text)).or_insert((i, false));
            group_of.push(*first);
            if *first == i {
                continue;
            }
            *(if same { &mut repeats.exact } else { &mut repeats.alike }) += 1;
            let earlier = &examples[*first];
            if earlier.label != example.label && !*told {
                *told = true;
                repeats.contradicting += 1;
                if repeats.contradictions.len() < LISTED {
                    repeats.contradictions.push(Contradiction {
                        lines: [earlier.line, example.line],
                        classes: [earlier, example].map(|e| classes[e.label].clone()),
                        text: example.text.chars().take(60).collect(),
                    });
                }
            }
        }
        (repeats, group_of)
    }

    /// In words. `together` says that the parts keep equal texts together.
    pub fn words(&self, together: bool) -> Vec<String> {
        let mut all = Vec::new();
        let repeated = self.exact + self.alike;
        if repeated > 0 {
            let rows = if repeated == 1 { "row repeats" } else { "rows repeat" };
            let alike = match self.alike {
                0 => String::new(),
                n => format!(" ({n} of them but for letter case, blanks or normal form)"),
            };
            let kept = if together {
                "; rows with the same text are kept in the same part of the split"
            } else {
                ""
            };
            all.push(format!("{repeated} {rows} the text of an earlier row{alike}{kept}"));
        }
        if self.contradicting > 0 {
            let one = |c: &Contradiction| {
                let ([a, b], [x, y]) = (c.lines, &c.classes);
                format!("lines {a} ({x:?}) and {b} ({y:?}): {:?}", c.text)
            };
            let listed: Vec<String> = self.contradictions.iter().map(one).collect();
            let more = if self.contradicting > LISTED { "; …" } else { "" };
            let texts = if self.contradicting == 1 { "text has" } else { "texts have" };
            all.push(format!(
                "{} {texts} different labels: {}{more}",
                self.contradicting,
                listed.join("; ")
            ));
        }
        all
    }
}
