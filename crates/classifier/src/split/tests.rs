use super::*;

fn labels() -> Vec<usize> {
    (0..100).map(|i| usize::from(i >= 70) + usize::from(i >= 95)).collect()
}

fn stratified(labels: &[usize], share: f64, seed: u64) -> Result<Split, SplitError> {
    let alone: Vec<usize> = (0..labels.len()).collect();
    Split::stratified(labels, &alone, share, seed)
}

fn count(rows: &[usize], labels: &[usize]) -> [usize; 3] {
    rows.iter().fold([0; 3], |mut n, &r| {
        n[labels[r]] += 1;
        n
    })
}

#[test]
fn stratified_keeps_proportions() {
    let labels = labels();
    let split = stratified(&labels, 0.2, 7).unwrap();
    assert_eq!(count(&split.test, &labels), [14, 5, 1]);
    assert_eq!(count(&split.train, &labels), [56, 20, 4]);
    let mut all = [split.train.clone(), split.test.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert_eq!(split, stratified(&labels, 0.2, 7).unwrap());
    assert_ne!(split, stratified(&labels, 0.2, 8).unwrap());
    // random order, so that the first rows are a fair sample
    assert!(count(&split.train[..40], &labels)[1] > 3);
}

#[test]
fn bad_shares_and_lonely_rows() {
    assert_eq!(stratified(&labels(), 1.0, 0).unwrap_err(), SplitError::Share(1.0));
    assert!(stratified(&labels(), f64::NAN, 0).is_err());
    // a single row trains
    let split = stratified(&[0, 0, 1], 0.5, 0).unwrap();
    assert!(split.train.contains(&2) && split.train.len() == 2 && split.test.len() == 1);
    assert_eq!(stratified(&[0, 1], 0.5, 0), Err(SplitError::NothingToTest { rows: 2 }));
}

#[test]
fn equal_texts_stay_in_one_part() {
    let labels = labels();
    // every text occurs three times, one of them with two labels
    let groups: Vec<usize> = (0..100).map(|i| i / 3).collect();
    let split = Split::stratified(&labels, &groups, 0.2, 7).unwrap();
    assert!((17..=20).contains(&split.test.len()), "{}", split.test.len());
    assert!(split.test.iter().all(|a| split.train.iter().all(|b| groups[*a] != groups[*b])));
    let one = Split::stratified(&[0, 0, 1, 1], &[0, 0, 1, 1], 0.5, 1);
    assert_eq!(one, Err(SplitError::NothingToTest { rows: 4 }));
}

#[test]
fn a_limit_keeps_every_class() {
    let labels = labels();
    let mut split = stratified(&labels, 0.2, 7).unwrap();
    let before = split.clone();
    split.limit_train_by_class(&labels, 10).unwrap();
    assert_eq!(count(&split.train, &labels), [6, 3, 1]);
    // of each class the first ones, in the order in which they were
    let first_of_rare = before.train.iter().find(|r| labels[**r] == 2);
    assert!(first_of_rare.is_some_and(|r| split.train.contains(r)));
    let place = |r: &usize| before.train.iter().position(|x| x == r).unwrap();
    assert!(split.train.windows(2).all(|two| place(&two[0]) < place(&two[1])));
    let error = split.limit_train_by_class(&labels, 2).unwrap_err();
    assert_eq!(error, SplitError::Limit { limit: 2, classes: 3 });
}

#[test]
fn validation_comes_out_of_the_training_rows() {
    let labels = labels();
    let mut split = stratified(&labels, 0.2, 7).unwrap();
    let before = split.clone();
    let alone: Vec<usize> = (0..labels.len()).collect();
    split.hold_out_validation(&labels, &alone, 0.25, 1).unwrap();
    assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (60, 20, 20));
    assert!(split.validation.iter().all(|r| before.train.contains(r) && !split.train.contains(r)));
    let again = split.clone();
    split.hold_out_validation(&labels, &alone, 0.25, 2).unwrap();
    assert_eq!(split, again);
}

#[test]
fn folds_test_every_row_once() {
    let labels = labels();
    let alone: Vec<usize> = (0..100).collect();
    let folds = k_fold(&labels, &alone, 5, 3).unwrap();
    let mut tested: Vec<usize> = folds.iter().flat_map(|f| f.test.clone()).collect();
    tested.sort_unstable();
    assert_eq!(tested, (0..100).collect::<Vec<_>>());
    for fold in &folds {
        assert_eq!(count(&fold.test, &labels), [14, 5, 1]);
        assert_eq!(fold.train.len(), 80);
        assert!(fold.test.iter().all(|r| !fold.train.contains(r)));
    }
    assert_eq!(k_fold(&labels, &alone, 1, 3).unwrap_err(), SplitError::Folds(1));
    assert!(matches!(k_fold(&labels, &alone, 6, 3), Err(SplitError::FewRows { class: 2, .. })));
}

#[test]
fn folds_keep_equal_texts_together() {
    let labels = labels();
    // every text occurs twice, some of them with two labels
    let groups: Vec<usize> = (0..100).map(|i| i % 50).collect();
    let folds = k_fold(&labels, &groups, 2, 3).unwrap();
    for fold in &folds {
        assert!((45..=55).contains(&fold.test.len()), "{}", fold.test.len());
        assert!(fold.test.iter().all(|a| fold.train.iter().all(|b| groups[*a] != groups[*b])));
    }
    // five rows of one text are in one fold only
    let one: Vec<usize> = (0..100).map(|i| i.min(95)).collect();
    let error = k_fold(&labels, &one, 2, 3).unwrap_err();
    assert_eq!(error, SplitError::FewRows { class: 2, rows: 1, needed: 2 });
}

#[test]
fn a_split_column() {
    let cells = ["train", "Test", " val ", "train"];
    let split =
        Split::by_column(cells.iter().enumerate().map(|(i, &c)| (i as u64 + 1, c))).unwrap();
    assert_eq!((split.train, split.validation, split.test), (vec![0, 3], vec![2], vec![1]));
    let message = |cells: &[&'static str]| {
        Split::by_column(cells.iter().enumerate().map(|(i, &c)| (i as u64 + 1, c)))
            .unwrap_err()
            .to_string()
    };
    assert!(message(&["train", "exam"]).starts_with("line 2: split \"exam\""));
    assert!(message(&["train"]).contains("no test rows"));
    assert!(message(&["test"]).contains("no train rows"));
}

#[test]
fn the_codelab_split() {
    // a stand-in with the true file's class counts: its first 402 training and 113 test rows are class 1
    let probe = Split::codelab(&[0; 998]).unwrap_err();
    assert_eq!(probe, SplitError::NotEthos { rows: 998 });
    assert_eq!(Split::codelab(&[0; 12]).unwrap_err(), SplitError::NotEthos { rows: 12 });
    let rows: Vec<usize> = include_str!("../ethos_codelab_rows.txt")
        .lines()
        .skip(2)
        .flat_map(|l| l.split(' ').map(|n| n.parse::<usize>().unwrap() - 1))
        .collect();
    let mut labels = [0; 998];
    rows[..402].iter().chain(&rows[800..913]).for_each(|&r| labels[r] = 1);
    let split = Split::codelab(&labels).unwrap();
    assert_eq!((split.train.len(), split.test.len()), (800, 198));
    assert_eq!((split.train[0], split.train[1]), (517, 685));
    let mut all = [split.train, split.test].concat();
    all.sort_unstable();
    assert_eq!(all, (0..998).collect::<Vec<_>>());
}
