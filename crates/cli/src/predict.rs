//! `hearth predict`

mod input;
mod progress;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use hearth_classifier::{
    bundle::Bundle,
    calibration::softmax,
    estimator::TextClassifier,
    metrics::predict,
    predictions::{PredictionsWriter, unused},
};
use hearth_gemma::Embedding;
use serde::Serialize;

use self::input::{Input, Scanned};
use self::progress::Task;
pub use self::progress::{Progress, record_of};
use crate::{
    Outcome, classifier_file,
    data::ColumnArgs,
    interrupt,
    options::Options,
    output::{self, Bar},
    session::{ModelArgs, Session},
};

/// Add a trained classifier's predictions to tables, or classify single texts
///
/// Tables are read and written piece by piece, so they may be larger than the memory. An interrupted run continues with
/// --resume; --shard divides the rows among several machines.
#[derive(Args)]
pub struct Predict {
    /// CSV, TSV, JSON Lines or JSON files; - reads standard input. The predictions of several files are one table, with a
    /// column for the file
    #[arg(value_name = "DATA", required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    columns: ColumnArgs,
    /// A classifier's file, or the folder of the run that made it
    #[arg(long, value_name = "FILE")]
    classifier: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// The file holds one text per line and is not a table
    #[arg(long, conflicts_with_all = ["text", "delimiter", "quote", "escape", "header", "no_header"])]
    lines: bool,
    /// Prefix cells that a spreadsheet would run as formulas with an apostrophe; such texts are then changed
    #[arg(long)]
    for_spreadsheets: bool,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only the I-th of N equal parts of the rows; `hearth merge-predictions` joins the parts
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "out")]
    shard: Option<(u64, u64)>,
    /// Continue the predictions in --out where they stopped
    #[arg(long, requires = "out")]
    resume: bool,
    /// Overwrite --out
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

/// Rows that are scored, written and recorded together.
const CHUNK: usize = 256;

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if (1..=n).contains(&i) => Ok((i, n)),
        _ => Err("expected I/N with I from 1 to N, such as 2/8".to_owned()),
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    row: usize,
    prediction: Option<&'a str>,
    probabilities: Vec<f64>,
}

/// What a row gets: its class and the probabilities, or nothing where it has no text.
type Answer = Option<(usize, Vec<f64>)>;

pub async fn run(options: &Options, args: &Predict) -> Result<Outcome> {
    let bundle = classifier_file::read(&args.classifier)?;
    if let Some(path) =
        args.out.as_ref().filter(|path| path.exists() && !args.force && !args.resume)
    {
        bail!(
            "{}: the file exists already; continue it with --resume, or overwrite it with --force",
            path.display()
        );
    }
    if options.json && (args.data.len() > 1 || args.shard.is_some() || args.resume) {
        bail!(
            "--json prints the answers for one table, all at once; for several tables, --shard and --resume leave it out: \
             --out writes CSV"
        );
    }
    let inputs = args.data.iter().map(|data| Input::open(data)).collect::<Result<Vec<_>>>()?;
    if args.resume && inputs.iter().any(Input::is_standard) {
        bail!("standard input cannot be read again, so --resume takes files only");
    }
    // a file of lines has no columns to look for
    let trained = bundle.classifier.origin.reading.as_ref().filter(|_| !args.lines);
    let scan = |input: &Input| input.scan(&args.columns, args.lines, trained);
    let scanned = inputs.iter().map(scan).collect::<Result<Vec<_>>>()?;
    for (input, other) in inputs.iter().zip(&scanned).skip(1) {
        if other.head.columns != scanned[0].head.columns {
            bail!(
                "{}: its columns are {}, but those of {} are {}: the predictions of several files are one table, so \
                 classify these one by one",
                input.name,
                other.head.columns.join(", "),
                inputs[0].name,
                scanned[0].head.columns.join(", ")
            );
        }
    }
    let session = Session::open(options, &args.model, Embedding::FromSource).await?;
    let mut classifier = classifier_file::open(&session, &bundle).await?;
    let rows: u64 = scanned.iter().map(|s| s.rows).sum();
    let (i, n) = args.shard.unwrap_or((1, 1));
    // exact in u128, whatever the number of rows
    let cut = |part: u64| (u128::from(rows) * u128::from(part) / u128::from(n)) as u64;
    let range = cut(i - 1)..cut(i);
    let bar = Bar::of_items(options, "predicting", range.end - range.start);
    let mut job = Job { classifier: &mut classifier, bar, empty: 0, done: 0 };
    if options.json {
        let answers = job.all(&inputs[0], &scanned[0]).await?;
        job.note_empty();
        return print_json(&scanned[0], job.classifier.classes(), answers);
    }
    let mut columns = scanned[0].head.columns.clone();
    if inputs.len() > 1 {
        columns.insert(0, unused(&columns, "file".to_owned()));
    }
    let task = Task::new(&bundle, &session.model.identity, &inputs, &scanned, args.shard, &columns)
        .for_spreadsheets(args.for_spreadsheets);
    let mut sink = Sink::open(args, &task, &columns, &bundle)?;
    if sink.progress.complete {
        output::note("the predictions are complete already");
        return Ok(Outcome::Done);
    }
    let start = range.start + sink.progress.rows;
    if sink.progress.rows > 0 {
        output::note(&format!("continuing after {} rows", sink.progress.rows));
    }
    job.done = sink.progress.rows;
    let file_column = inputs.len() > 1;
    let mut before = 0;
    for (input, scanned) in inputs.iter().zip(&scanned) {
        let first = start.clamp(before, before + scanned.rows) - before;
        let end = range.end.clamp(before, before + scanned.rows) - before;
        before += scanned.rows;
        if first >= end {
            continue;
        }
        let mut reader = input.rows(scanned)?;
        let (mut chunk, mut at) = (Vec::with_capacity(CHUNK), 0);
        while at < end {
            let Some(row) = reader.next() else { break };
            let row = row.with_context(|| input.name.clone())?;
            at += 1;
            if at <= first {
                continue;
            }
            chunk.push(row);
            if chunk.len() == CHUNK || at == end {
                let answers = job.answers(scanned, &chunk).await;
                let answers = answers.inspect_err(|_| sink.note_stopped(args))?;
                for (row, answer) in chunk.drain(..).zip(answers) {
                    let mut cells = row.fields;
                    cells.resize(scanned.head.columns.len(), String::new());
                    if file_column {
                        cells.insert(0, input.name.clone());
                    }
                    let (class, probabilities) = answer.unzip();
                    sink.writer.write(
                        &cells,
                        class,
                        probabilities.as_deref().unwrap_or_default(),
                    )?;
                }
                sink.save(job.done)?;
            }
        }
    }
    sink.finish(args.shard.is_some())?;
    job.note_empty();
    Ok(Outcome::Done)
}

/// Scores rows.
struct Job<'j, 's> {
    classifier: &'j mut TextClassifier<'s>,
    bar: Bar,
    /// Rows without text so far.
    empty: u64,
    /// Rows so far.
    done: u64,
}

impl Job<'_, '_> {
    /// The answers for a few rows.
    async fn answers(
        &mut self,
        scanned: &Scanned,
        rows: &[hearth_classifier::table::Row],
    ) -> Result<Vec<Answer>> {
        let texts: Vec<String> = rows.iter().map(|row| scanned.text_of(row)).collect();
        // a row without text gets no prediction
        let full: Vec<usize> = (0..texts.len()).filter(|&i| !texts[i].trim().is_empty()).collect();
        let mut answers = vec![None; texts.len()];
        if !full.is_empty() {
            let asked: Vec<&str> = full.iter().map(|&i| texts[i].as_str()).collect();
            let (bar, before) = (&self.bar, self.done);
            let progress = |done: usize| {
                bar.at(before + done as u64);
                !interrupt::asked()
            };
            let logs = self.classifier.log_probabilities(&asked, progress).await?;
            let (classes, choice) = (self.classifier.classes().len(), self.classifier.choice());
            let probabilities = softmax(&logs, classes, choice.temperature);
            for (&i, row) in full.iter().zip(probabilities.chunks_exact(classes)) {
                let class = predict(row, self.classifier.positive(), choice.threshold);
                answers[i] = Some((class, row.to_vec()));
            }
        }
        self.empty += (texts.len() - full.len()) as u64;
        self.done += texts.len() as u64;
        self.bar.at(self.done);
        Ok(answers)
    }

    /// The answers for a whole file, which are held in memory.
    async fn all(&mut self, input: &Input, scanned: &Scanned) -> Result<Vec<Answer>> {
        let mut reader = input.rows(scanned)?;
        let mut all = Vec::new();
        loop {
            let chunk = reader.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>();
            let chunk = chunk.with_context(|| input.name.clone())?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend(self.answers(scanned, &chunk).await?);
        }
    }

    fn note_empty(&self) {
        let empty = self.empty;
        if empty > 0 {
            let rows =
                if empty == 1 { "row has no text and gets" } else { "rows have no text and get" };
            output::note(&format!("warning: {empty} {rows} no prediction"));
        }
    }
}

fn print_json(scanned: &Scanned, classes: &[String], answers: Vec<Answer>) -> Result<Outcome> {
    let row = |(i, answer): (usize, Answer)| {
        let (class, probabilities) = answer.unzip();
        let prediction = class.map(|class: usize| classes[class].as_str());
        JsonRow { row: i + 1, prediction, probabilities: probabilities.unwrap_or_default() }
    };
    let rows: Vec<_> = answers.into_iter().enumerate().map(row).collect();
    let reading = &scanned.reading;
    output::json(&serde_json::json!({ "reading": reading, "classes": classes, "rows": rows }))?;
    Ok(Outcome::Done)
}

/// Where predictions go: standard output, or a file with a record of how far it is.
struct Sink {
    writer: PredictionsWriter<Box<dyn Write>>,
    /// The file once more, to learn its length and to bring it to the disk.
    file: Option<(File, PathBuf)>,
    progress: Progress,
}

impl Sink {
    fn open(args: &Predict, task: &Task, columns: &[String], bundle: &Bundle) -> Result<Self> {
        let classes = &bundle.classifier.classes;
        let mut progress = Progress::new(task.clone());
        let Some(path) = &args.out else {
            let to: Box<dyn Write> = Box::new(io::stdout().lock());
            let writer = PredictionsWriter::new(to, columns, classes, args.for_spreadsheets)?;
            return Ok(Self { writer, file: None, progress });
        };
        let at = || format!("{}: writing", path.display());
        if args.resume && (path.exists() || record_of(path).exists()) {
            progress = Progress::resume(path, task)?;
            let mut file = File::options().write(true).open(path).with_context(at)?;
            if file.metadata().with_context(at)?.len() < progress.bytes {
                bail!(
                    "{}: the file is shorter than its record {} says; start over with --force",
                    path.display(),
                    record_of(path).display()
                );
            }
            // what was written after the last record is scored again
            file.set_len(progress.bytes).with_context(at)?;
            file.seek(SeekFrom::End(0)).with_context(at)?;
            let same = file.try_clone().with_context(at)?;
            let to: Box<dyn Write> = Box::new(BufWriter::new(file));
            let writer = PredictionsWriter::continued(to, columns, classes, args.for_spreadsheets);
            return Ok(Self { writer, file: Some((same, path.clone())), progress });
        }
        let file = File::create(path).with_context(at)?;
        let same = file.try_clone().with_context(at)?;
        let to: Box<dyn Write> = Box::new(BufWriter::new(file));
        let writer = PredictionsWriter::new(to, columns, classes, args.for_spreadsheets)?;
        let mut sink = Self { writer, file: Some((same, path.clone())), progress };
        sink.save(0)?;
        Ok(sink)
    }

    /// Brings the rows to the disk, and then the record of them.
    fn save(&mut self, rows: u64) -> Result<()> {
        self.writer.flush()?;
        let Some((file, path)) = &self.file else { return Ok(()) };
        let at = || format!("{}: writing", path.display());
        file.sync_data().with_context(at)?;
        self.progress.rows = rows;
        self.progress.bytes = file.metadata().with_context(at)?.len();
        self.progress.write(path)
    }

    /// All rows are written. The record stays where the file is a part of a whole.
    fn finish(&mut self, is_part: bool) -> Result<()> {
        self.writer.flush()?;
        let Some((_, path)) = &self.file else { return Ok(()) };
        if is_part {
            self.progress.complete = true;
            return self.progress.write(path);
        }
        let record = record_of(path);
        std::fs::remove_file(&record).with_context(|| format!("{}: removing", record.display()))
    }

    fn note_stopped(&self, args: &Predict) {
        if let Some((_, path)) = self.file.as_ref().filter(|_| interrupt::asked()) {
            let again = match args.data.iter().any(|data| data == Path::new("-")) {
                true => "",
                false => ": the same command with --resume continues",
            };
            let rows = self.progress.rows;
            output::note(&format!(
                "stopped after {rows} rows, which are in {}{again}",
                path.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_as_people_do() {
        assert_eq!(shard("2/8"), Ok((2, 8)));
        assert_eq!(shard("1/1"), Ok((1, 1)));
        for wrong in ["0/8", "9/8", "1/0", "1", "a/b", "-1/2", "1/2/3"] {
            assert!(shard(wrong).unwrap_err().contains("such as 2/8"), "{wrong}");
        }
    }

    #[test]
    fn the_file_column_has_a_name_of_its_own() {
        assert_eq!(unused(&["text"], "file".to_owned()), "file");
        assert_eq!(unused(&["file"], "file".to_owned()), "file (2)");
    }
}
