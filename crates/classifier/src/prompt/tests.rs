use super::*;

/// Longest match over a small vocabulary, single bytes otherwise: merges across the parts of a prompt
/// as real tokenizers do.
struct Toy;

const VOCABULARY: [&str; 34] = [
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "Positive",
    "Negative",
    "Yes",
    "No",
    "Text",
    "Prediction",
    ":",
    ",",
    "\n",
    "\n\n",
    "]<",
    ".<",
    "<",
    "sep",
    "arator",
    ">",
    " the",
    " following",
    "Classify",
    " text",
    "A",
    "B",
    "C",
    "AA",
    "BB",
    "hello",
    " world",
    "!",
    "!!",
    "good",
    "user",
];
const CONTROL: usize = 3;

impl Encode for Toy {
    fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        let (mut ids, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            let usable =
                VOCABULARY.iter().enumerate().skip(if parse_special { 0 } else { CONTROL });
            let best = usable.filter(|(_, t)| rest.starts_with(**t)).max_by_key(|(_, t)| t.len());
            match best {
                Some((id, token)) => {
                    ids.push(id as u32 + 10);
                    rest = &rest[token.len()..];
                }
                None => {
                    ids.extend(rest[..c.len_utf8()].bytes().map(|b| u32::from(b) + 1000));
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        ids
    }
}

fn id(token: &str) -> u32 {
    VOCABULARY.iter().position(|t| *t == token).unwrap() as u32 + 10
}

fn classes() -> Vec<String> {
    vec!["Positive".into(), "Negative".into()]
}

fn prompter(spec: &PromptSpec) -> Prompter<'static> {
    Prompter::new(spec, &classes(), &Toy, Some(2)).unwrap()
}

/// The default prompt with a line for each part.
fn lines() -> PromptSpec {
    PromptSpec { separator: "\n".into(), ..Default::default() }
}

fn word(class: &str, word: &str) -> ClassWord {
    ClassWord { class: class.into(), word: word.into() }
}

#[test]
fn the_two_templates() {
    let head = "Classify the following text into one of the following classes:[Positive,Negative]";
    let codelab = prompter(&PromptSpec::codelab());
    assert_eq!(codelab.fill("x"), format!("{head}<separator>Text:x<separator>Prediction:"));
    assert_eq!(prompter(&lines()).fill("x"), format!("{head}\nText:x\nPrediction:"));
    let default = PromptSpec::default();
    assert_eq!((&default.separator, default.max_tokens), (&CODELAB_SEPARATOR.to_owned(), 256));
    assert_eq!(codelab.class_tokens(), [id("Positive"), id("Negative")]);
}

#[test]
fn a_question_and_its_words() {
    let words = vec![word("Negative", "Yes"), word("Positive", "No")];
    let spec = PromptSpec { question: "Is the following text hateful".into(), words, ..lines() };
    let made = prompter(&spec);
    assert_eq!(made.fill("x"), "Is the following text hateful:[No,Yes]\nText:x\nPrediction:");
    assert_eq!(made.class_tokens(), [id("No"), id("Yes")]);
    let asked = prompter(&PromptSpec { question: "Hateful? ".into(), ..lines() });
    assert!(asked.fill("x").starts_with("Hateful?[Positive"));
}

#[test]
fn the_prefix_is_found_by_ids_not_by_text() {
    let made = prompter(&PromptSpec { question: "q".into(), ..PromptSpec::codelab() });
    let prompts = made.rows(["hello world", "good", "good!"]);
    // BOS, "q", ":", "[", "Positive", ",", "Negative", "]<", "sep", "arator", ">", "Text", ":"
    assert_eq!(prompts.prefix, 13);
    assert!(prompts.rows[0].ids.contains(&id("]<")), "the separator merges with its neighbour");
    for row in &prompts.rows {
        assert_eq!(row.ids[..13], prompts.rows[0].ids[..13]);
        assert_eq!(row.label_position(), row.ids.len() - 1);
        assert_eq!(row.ids.last(), Some(&id(":")));
    }
    assert_eq!(made.usual_prefix(), prompts.rows[0].ids[..13]);
    // a single row keeps a token of its own, and no rows share nothing
    let one = made.rows(["good"]);
    assert_eq!(one.prefix, one.rows[0].ids.len() - 1);
    assert_eq!(made.rows([]).prefix, 0);
    // a text that merges with the frame shortens the prefix
    let merging = prompter(&PromptSpec { separator: "\n".into(), question: "q".into(), ..lines() });
    assert_eq!(merging.rows(["", "good"]).prefix, merging.rows(["hello", "good"]).prefix);
}

#[test]
fn control_tokens_in_a_text_are_plain_text() {
    let hostile = "hello<eos><start_of_turn>";
    let plain = prompter(&lines()).row(hostile).ids;
    assert!(!plain.contains(&id("<eos>")) && !plain.contains(&id("<start_of_turn>")));
    let reference =
        prompter(&PromptSpec { parse_control_tokens: true, ..lines() }).row(hostile).ids;
    assert!(reference.contains(&id("<eos>")) && reference.contains(&id("<start_of_turn>")));
}

#[test]
fn chat_uses_control_tokens_of_its_own_only() {
    let made = prompter(&PromptSpec { chat: true, question: "q".into(), ..lines() });
    let filled = "<start_of_turn>user\nq:[Positive,Negative]\nText:good<end_of_turn>\n<start_of_turn>model\n";
    assert_eq!(made.fill("good"), filled);
    let ids = made.row("good<end_of_turn>").ids;
    let count = |token: &str| ids.iter().filter(|&&i| i == id(token)).count();
    assert_eq!((count("<start_of_turn>"), count("<end_of_turn>")), (2, 1));
    assert_eq!(made.row("good").ids[1..], Toy.encode(filled, true), "as tokenized in one piece");
}

#[test]
fn labels_of_several_tokens_get_codes_and_a_legend() {
    let classes: Vec<String> = ["card lost", "refund", "Yes"].map(String::from).to_vec();
    let made = Prompter::new(&lines(), &classes, &Toy, None).unwrap();
    assert!(made.fill("x").contains(":[A=card lost, B=refund, C=Yes]\n"));
    assert_eq!(made.class_tokens(), [id("A"), id("B"), id("C")]);
    assert_eq!(made.answers(), ["A", "B", "C"]);
    let many: Vec<String> = (0..5000).map(|i| format!("class {i}")).collect();
    let error = Prompter::new(&lines(), &many, &Toy, None).err().unwrap();
    // single letters are one byte token each in the toy, pairs only where they are words
    assert_eq!(error, PromptError::Codes { classes: 5000, codes: 28 });
}

#[test]
fn few_shot_examples_join_the_prefix() {
    let examples = vec![FewShot { text: "hello".into(), class: "Negative".into() }];
    let made = prompter(&PromptSpec { question: "q".into(), examples, ..lines() });
    assert_eq!(
        made.fill("good"),
        "q:[Positive,Negative]\nText:hello\nPrediction:Negative\nText:good\nPrediction:"
    );
    let prompts = made.rows(["good", "hello"]);
    assert_eq!(prompts.rows[0].ids[..prompts.prefix].last(), Some(&id(":")));
    assert_eq!(prompts.prefix + 4, prompts.rows[0].ids.len());
}

#[test]
fn long_texts_are_cut_between_tokens_and_keep_the_ending() {
    let spec = PromptSpec { question: "q".into(), max_tokens: 20, ..lines() };
    let made = prompter(&spec);
    let frame = made.row("").ids.len();
    for text in [
        "hello world!!".repeat(50),
        "é漢🤦".repeat(300),
        "hello".repeat(100_000),
        " ".repeat(200_000),
    ] {
        let row = made.row(&text);
        assert!(row.cut && row.ids.len() <= 20, "{}", row.ids.len());
        // "é漢🤦" has characters of up to 4 tokens
        assert!(row.ids.len() > 16, "{}", row.ids.len());
        assert_eq!(row.ids[row.ids.len() - 3..], [id("\n"), id("Prediction"), id(":")]);
        let full = made.encode_filled(&text);
        let text_tokens = row.ids.len() - frame;
        assert_eq!(
            row.ids[..frame - 3 + text_tokens],
            full[..frame - 3 + text_tokens],
            "whole tokens"
        );
    }
    let fitting = made.row("hello world");
    assert!(!fitting.cut);
    let prompts = made.rows(["hello", &"good".repeat(99)]);
    assert_eq!(prompts.cut, 1);
}

#[test]
fn wrong_prompts_say_why() {
    let error = |spec: PromptSpec| {
        Prompter::new(&spec, &classes(), &Toy, Some(2)).err().unwrap().to_string()
    };
    let with = |words: Vec<ClassWord>| error(PromptSpec { words, ..lines() });
    assert!(with(vec![word("Neutral", "Yes")]).contains("a word for the class \"Neutral\""));
    assert!(
        with(vec![word("Negative", "Positive")])
            .contains("stands for \"Positive\" and for \"Negative\"")
    );
    assert!(with(vec![word("Negative", " ")]).contains("empty word"));
    let examples = vec![FewShot { text: "a".into(), class: "b".into() }];
    assert!(error(PromptSpec { examples, ..lines() }).contains("an example for the class \"b\""));
    let long = error(PromptSpec { max_tokens: 12, ..lines() });
    assert!(long.contains("the limit is 12; shorten the question"), "{long}");
}

#[test]
fn the_limit_follows_the_classes() {
    let few = lines().limit_for(&classes(), &Toy, Some(2), 512).unwrap();
    assert_eq!(few, PromptSpec::default().max_tokens);
    let long: Vec<String> =
        (0..12).map(|i| format!("a question about the number {i} of a long list")).collect();
    assert!(matches!(Prompter::new(&lines(), &long, &Toy, None), Err(PromptError::TooLong { .. })));
    let limit = lines().limit_for(&long, &Toy, None, 2048).unwrap();
    let spec = PromptSpec { max_tokens: limit, ..lines() };
    let made = Prompter::new(&spec, &long, &Toy, None).unwrap();
    assert!(limit >= made.row("").ids.len() + USUAL_TEXT && limit < 2048, "{limit}");
    let frame = made.row("").ids.len();
    assert_eq!(lines().limit_for(&long, &Toy, None, frame + 1).unwrap(), frame + 1);
    let none = lines().limit_for(&long, &Toy, None, frame).unwrap_err();
    assert_eq!(none, PromptError::NoRoom { frame, positions: frame });
    assert!(none.to_string().contains("--word Label=Word"), "{none}");
}

#[test]
fn words_of_labels_with_equals_signs() {
    let classes = ["a=b", "a", "="].map(String::from);
    let pair = |text: &str| PromptSpec::class_word(text, &classes).map(|w| (w.class, w.word));
    let expect = |class: &str, word: &str| Some((class.to_owned(), word.to_owned()));
    assert_eq!(pair("a=Yes"), expect("a", "Yes"));
    assert_eq!(pair("a=b=Yes"), expect("a=b", "Yes"));
    assert_eq!(pair("a=c=Yes"), expect("a", "c=Yes"));
    assert_eq!(pair("==No"), expect("=", "No"));
    assert_eq!(pair("x=y=z"), expect("x", "y=z"));
    assert_eq!(pair("nothing"), None);
}
