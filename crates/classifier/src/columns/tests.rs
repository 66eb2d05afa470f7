use super::*;
use crate::split::Split;
use crate::table::{TableOptions, read};

fn table(text: &str) -> Table {
    read(text.as_bytes(), TableOptions::default(), &mut |_| {}).unwrap()
}

fn dataset(text: &str, options: DatasetOptions) -> Result<Dataset, ColumnsError> {
    let table = table(text);
    Dataset::from_table(&table, &guess_roles(&table), &options)
}

fn positive(name: &str) -> DatasetOptions {
    DatasetOptions { positive: Some(name.into()), ..Default::default() }
}

#[test]
fn roles_by_name_and_by_content() {
    let named = guess_roles(&table("id,split,label,text\n1,train,a,x\n2,test,b,y\n"));
    assert_eq!(
        named,
        Roles { text: TextSource::Column(3), label: Some(2), split: Some(1), id: Some(0) }
    );
    let by_content = guess_roles(&table(
        "Beitrag;Art;n\nein langer Satz;gut;1\nnoch ein Satz;böse;2\nund noch einer;gut;3\nund Schluss;böse;4\n",
    ));
    assert_eq!(
        by_content,
        Roles { text: TextSource::Column(0), label: Some(1), split: None, id: None }
    );
    let ethos = guess_roles(&table("comment;isHate\na;1.0\nb;0.0\n"));
    assert_eq!((ethos.text, ethos.label), (TextSource::Column(0), Some(1)));
}

#[test]
fn two_classes_need_a_positive_one_and_it_comes_last() {
    let text = "text,label\na,Negative\nb,Positive\n";
    let error = dataset(text, DatasetOptions::default()).unwrap_err();
    assert!(error.to_string().contains(
        "which class is the positive one (the one to find): \"Negative\", \"Positive\"?"
    ));
    let data = dataset(text, positive("Negative")).unwrap();
    assert_eq!(
        (data.classes.clone(), data.positive),
        (vec!["Positive".to_string(), "Negative".into()], Some(1))
    );
    assert_eq!(data.labels(), [1, 0]);
    assert!(matches!(dataset(text, positive("x")), Err(ColumnsError::UnknownPositive { .. })));
}

#[test]
fn many_classes_sort_naturally() {
    let data = dataset("text,label\na,10\nb,9\nc,1\n", DatasetOptions::default()).unwrap();
    assert_eq!((data.classes, data.positive), (vec!["1".into(), "9".into(), "10".into()], None));
}

#[test]
fn numbers_become_classes() {
    let text = "comment;isHate\na;1.0\nb;0.3333\nc;0.3333\nd;0.0\n";
    let rule = LabelRule::Median { above: "Negative".into(), below: "Positive".into() };
    let options = DatasetOptions { rule, ..positive("Negative") };
    assert_eq!(dataset(text, options).unwrap().labels(), [1, 1, 1, 0]);
    let rule = LabelRule::Threshold { threshold: 0.5, above: "hate".into(), below: "fine".into() };
    let options = DatasetOptions { rule: rule.clone(), ..positive("hate") };
    assert_eq!(dataset(text, options.clone()).unwrap().labels(), [1, 0, 0, 0]);
    let error = dataset("comment;isHate\na;1.0\nb;often\n", options).unwrap_err();
    assert_eq!(error, ColumnsError::NotANumber { line: 3, found: "often".into() });
}

#[test]
fn bad_rows_are_told_and_dropped_only_when_asked() {
    let text = "text,label,n\na,x,1\n ,y,2\nc,,3\n\"\",\"\",\nd,y,4\n\"\",,5\n";
    let error = dataset(text, positive("y")).unwrap_err();
    let expected = "2 rows without text (lines 3, 7) and 2 rows without label (lines 4, 7); correct them, or drop these rows (--drop-bad)";
    assert_eq!(error.to_string(), expected);
    let data = dataset(text, DatasetOptions { drop_bad: true, ..positive("y") }).unwrap();
    assert_eq!(data.examples.iter().map(|e| (e.row, e.line)).collect::<Vec<_>>(), [(1, 2), (5, 6)]);
    assert_eq!(data.dropped, BadRows { empty_text: vec![2, 6], empty_label: vec![3, 6] });
    // a row that is wholly empty is none
    assert_eq!(data.notes, ["1 empty row is skipped"]);
}

#[test]
fn labels_that_make_no_classifier() {
    assert!(matches!(
        dataset("text,label\na,x\nb,x\n", positive("x")),
        Err(ColumnsError::OneClass { rows: 2, .. })
    ));
    let drop = DatasetOptions { drop_bad: true, ..Default::default() };
    assert!(matches!(dataset("text,label\n,x\n", drop), Err(ColumnsError::NoRows { .. })));
    let many: String = (0..1001).map(|i| format!("t{i},l{i}\n")).collect();
    let error = dataset(&format!("text,label\n{many}"), DatasetOptions::default()).unwrap_err();
    assert_eq!(error, ColumnsError::ManyClasses { found: 1001, limit: MAX_CLASSES });
    let unlabelled = table("text\na\nb\n");
    let error =
        Dataset::from_table(&unlabelled, &guess_roles(&unlabelled), &DatasetOptions::default());
    assert!(matches!(error, Err(ColumnsError::NoLabel { .. })));
}

#[test]
fn templates() {
    let table = table("title,body,label\nA,b,x\n,,y\n,only,x\n");
    let source = parse_template("{title}: {body} {{so}}", &table).unwrap();
    let texts: Vec<String> = table.rows.iter().map(|r| source.of(r)).collect();
    assert_eq!(texts, ["A: b {so}", "", ": only {so}"]);
    assert_eq!(source.columns(), [0, 1]);
    let message = |t: &str| parse_template(t, &table).unwrap_err().to_string();
    assert!(message("{tilte}").contains("the columns are \"title\", \"body\", \"label\""));
    assert!(message("nothing").contains("names no column"));
    assert!(message("{title}}").contains("without a '{'"));
}

#[test]
fn duplicates_ignore_case_spacing_and_normal_form() {
    let csv = "text,label\nHello  there,a\nb,b\nStra\u{DF}e cafe\u{301},a\nc,b\nhello there\t,a\nB,b\n\
               STRA\u{DF}E caf\u{E9},a\n";
    let data = dataset(csv, positive("a")).unwrap();
    let (_, groups) = Repeats::among(&data.examples, &data.classes);
    let (train, test) = groups.split_at(3);
    let found = duplicates(train.iter().copied(), test.iter().copied());
    let pairs: Vec<(usize, usize)> = found.iter().map(|d| (d.train, d.test)).collect();
    assert_eq!(pairs, [(0, 1), (1, 2), (2, 3)]);
}

#[test]
fn counts_and_warnings() {
    let classes = ["a".to_string(), "b".to_string(), "c".to_string()];
    let counts = class_counts(&classes, [0; 41].into_iter().chain([1; 10]));
    assert_eq!(counts.iter().map(|c| c.rows).collect::<Vec<_>>(), [41, 10, 0]);
    let found = warnings(&counts);
    assert!(
        found[0].contains("\"c\" has only 0")
            && found[1].contains("41 rows of \"a\" against 0 of \"c\"")
    );
    assert!(warnings(&class_counts(&classes[..2], [0; 40].into_iter().chain([1; 10]))).is_empty());
}

#[test]
fn token_lengths() {
    let lengths: Vec<usize> = (1..=100).collect();
    let histogram = TokenHistogram::new(&lengths).unwrap();
    assert_eq!((histogram.width, histogram.longest, histogram.p95), (5, 100, 95));
    assert_eq!((histogram.mean, histogram.median), (50.5, 50.5));
    assert_eq!((histogram.bars[0], histogram.bars.iter().sum::<usize>()), (4, 100));
    assert!(TokenHistogram::new(&[]).is_none());
}

/// With `HEARTH_ETHOS` naming a copy of Ethos_Dataset_Binary.csv, its codelab split is checked too.
#[test]
fn the_true_ethos_file() {
    let Some(path) = hearth_testing::variable("HEARTH_ETHOS") else { return };
    let table =
        read(std::fs::File::open(path).unwrap(), TableOptions::default(), &mut |_| {}).unwrap();
    let rule = LabelRule::Median { above: "Negative".into(), below: "Positive".into() };
    let options = DatasetOptions { rule, ..positive("Negative") };
    let data = Dataset::from_table(&table, &guess_roles(&table), &options).unwrap();
    let split = Split::codelab(&data.labels()).unwrap();
    let negative = |rows: &[usize]| rows.iter().filter(|&&r| data.examples[r].label == 1).count();
    assert_eq!((negative(&split.train), negative(&split.test)), (402, 113));
    // texts agree with a copy in the codelab's order, where one is given
    let Some(path) = hearth_testing::variable("HEARTH_ETHOS_CODELAB") else { return };
    let reference =
        read(std::fs::File::open(path).unwrap(), TableOptions::default(), &mut |_| {}).unwrap();
    let order = split.train.iter().chain(&split.test);
    for (&row, expected) in order.zip(&reference.rows) {
        assert_eq!(data.examples[row].text, expected.fields[0]);
        assert_eq!(data.classes[data.examples[row].label], expected.fields[1]);
    }
    assert_eq!(reference.rows.len(), 998);
}
