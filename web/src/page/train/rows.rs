//! How many rows to train on, where all of them take long.

use leptos::prelude::*;

use crate::{
    page::{
        actions,
        format::{count, duration},
        state::App,
    },
    protocol::TimePlan,
};

/// Minutes from which a run is called long.
const LONG: f64 = 60.0;
/// Numbers of rows to choose from.
const SIZES: [usize; 7] = [200, 500, 1_000, 2_000, 5_000, 10_000, 20_000];
/// How many of them are offered.
const OFFERED: usize = 3;

/// Numbers of rows that take less than all of them do, with their minutes; the last one is the largest that is
/// not long, or the smallest of all. Nothing where all rows do not take long.
fn offers(time: TimePlan, rows: usize) -> Vec<(usize, f64)> {
    if time.total() <= LONG {
        return Vec::new();
    }
    let of = |size: usize| (size, time.with_rows(size, rows));
    let fewer: Vec<_> = SIZES.into_iter().filter(|size| *size < rows).map(of).collect();
    let short = fewer.iter().filter(|(_, minutes)| *minutes <= LONG).count();
    let end = short.max(1).min(fewer.len());
    fewer[end.saturating_sub(OFFERED)..end].to_vec()
}

/// Offers to train on fewer rows, or on all again.
#[component]
pub fn Rows() -> impl IntoView {
    let app = App::here();
    let limit_to = move |limit: Option<usize>| {
        app.choices.update(|choices| choices.limit = limit);
        actions::prepare(app);
    };
    let offer = move |(size, minutes): (usize, f64), last: bool| {
        let words = format!("{} rows, about {}", count(size as u64), duration(minutes * 60.0));
        view! {
            <button
                type="button"
                class:primary=last
                data-test=format!("train-on-{size}")
                on:click=move |_| limit_to(Some(size))
            >
                {words}
            </button>
        }
    };
    let fewer = move || {
        let (time, rows) = app.plan.with(|plan| plan.as_ref().map(|p| (p.time, p.rows)))?;
        let offers = offers(time, rows);
        let last = offers.len().checked_sub(1)?;
        let buttons: Vec<_> =
            offers.into_iter().enumerate().map(|(i, o)| offer(o, i == last)).collect();
        Some(view! {
            <div class="card" data-test="fewer-rows">
                <p>
                    {format!(
                        "All {} training rows take about {}. Each further row helps less than the one before: start with fewer, look at the results, and train on more if you need to.",
                        count(rows as u64),
                        duration(time.total() * 60.0),
                    )}
                </p>
                <div class="actions">{buttons}</div>
            </div>
        })
    };
    let limited = move || {
        let limit = app.choices.with(|choices| choices.limit)?;
        Some(view! {
            <p class="quiet">
                {format!("Training is limited to {} rows. ", count(limit as u64))}
                <button type="button" class="quiet-button" data-test="train-on-all" on:click=move |_| limit_to(None)>
                    "Use all rows"
                </button>
            </p>
        })
    };
    view! {
        {fewer}
        {limited}
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test]
    fn fewer_rows_are_offered_where_all_take_long() {
        let time = TimePlan { training: 2_000.0, testing: 10.0 };
        let offered: Vec<usize> = offers(time, 40_000).iter().map(|offer| offer.0).collect();
        assert_eq!(offered, [200, 500, 1_000], "1,000 rows take 50 of 2,000 minutes, and 10 more");
        assert!((offers(time, 40_000)[2].1 - 60.0).abs() < 1e-9);
        assert!(offers(TimePlan { training: 40.0, testing: 10.0 }, 40_000).is_empty());
        // where even the fewest take long, those are offered
        let slow = TimePlan { training: 1e6, testing: 100.0 };
        assert_eq!(offers(slow, 40_000).iter().map(|o| o.0).collect::<Vec<_>>(), [200]);
        // and where the rows are few already, nothing
        assert!(offers(slow, 150).is_empty());
    }
}
