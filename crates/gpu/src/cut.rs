//! From recorded commands to submissions of bounded work.
//!
//! Commands are cut when they are handed over, with the budget of that moment. A launch that is more
//! work than the budget is cut by workgroups, so every result stays the same to the bit.

use crate::{Command, Dispatch, commands::Split};

/// Most launches in one submission: their parameters have to fit one buffer, made once.
pub(crate) const MAX_LAUNCHES: usize = 512;
/// WebGPU's default for `maxComputeWorkgroupsPerDimension`.
const MAX_WORKGROUPS: u64 = 65_535;

/// Workgroups of a launch that go into one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Index of the first workgroup, as [`Split`] counts: x and y, or the index in the line and 0.
    pub(crate) first: [u32; 2],
    pub(crate) workgroups: [u32; 3],
}

/// A command of a submission, or a part of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) command: &'a Command,
    /// `None`: all of it.
    pub(crate) part: Option<Part>,
}

impl<'a> From<&'a Command> for Piece<'a> {
    fn from(command: &'a Command) -> Self {
        Self { command, part: None }
    }
}

impl Piece<'_> {
    pub(crate) fn workgroups(&self) -> [u32; 3] {
        match (self.part, self.command) {
            (Some(part), _) => part.workgroups,
            (None, Command::Dispatch(dispatch)) => dispatch.workgroups,
            _ => [0; 3],
        }
    }

    /// Writes the index of the first workgroup into a copy of the launch's parameters.
    pub(crate) fn write_first(&self, params: &mut [u8]) {
        let (Some(part), Command::Dispatch(dispatch)) = (self.part, self.command) else { return };
        let (field, count) = match dispatch.split {
            Some(Split::Line { field, .. }) => (field, 1),
            Some(Split::Plane { field }) => (field, 2),
            None => return,
        };
        let words = params[field..].chunks_exact_mut(4).zip(&part.first[..count]);
        words.for_each(|(word, first)| word.copy_from_slice(&first.to_ne_bytes()));
    }
}

/// What one submission may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Operations.
    pub(crate) operations: u64,
    /// Ends at the first [`Command::Boundary`] too.
    pub(crate) one_layer: bool,
}

/// Commands that are not handed over yet.
pub(crate) struct Rest<'a> {
    items: &'a [Command],
    /// Workgroups of the first item that are.
    done: u64,
}

impl<'a> Rest<'a> {
    pub(crate) fn new(items: &'a [Command]) -> Self {
        Self { items, done: 0 }
    }

    /// Takes the next submission and its cost; `None` when nothing is left.
    pub(crate) fn next(&mut self, budget: Budget) -> Option<(Vec<Piece<'a>>, u64)> {
        let mut pieces = Vec::new();
        let (mut cost, mut launches) = (0, 0);
        while let Some((item, after)) = self.items.split_first() {
            match item {
                Command::Dispatch(dispatch) => {
                    let left = dispatch.groups() - self.done;
                    let work = dispatch.cost_between(self.done, dispatch.groups());
                    let fits = work <= budget.operations.saturating_sub(cost);
                    if (!fits && cost > 0) || launches == MAX_LAUNCHES {
                        break;
                    }
                    launches += 1;
                    let wanted = match fits {
                        true => left,
                        false => dispatch.groups_within(self.done, budget.operations),
                    };
                    let (part, taken) = dispatch.part(self.done, wanted);
                    let end = self.done + taken;
                    pieces.push(Piece {
                        command: item,
                        part: (taken < dispatch.groups()).then_some(part),
                    });
                    cost += dispatch.cost_between(self.done, end);
                    if taken < left {
                        self.done = end;
                        if fits {
                            // The rest of a row of workgroups; the rows below follow.
                            continue;
                        }
                        break;
                    }
                }
                Command::Boundary if budget.one_layer && cost > 0 => {
                    self.items = after;
                    break;
                }
                Command::Boundary => {}
                Command::Copy { .. } | Command::Clear(_) => pieces.push(item.into()),
            }
            (self.items, self.done) = (after, 0);
        }
        (!pieces.is_empty()).then_some((pieces, cost))
    }
}

impl Dispatch {
    /// Operations of the workgroups `from..to`.
    fn cost_between(&self, from: u64, to: u64) -> u64 {
        self.cost_until(to) - self.cost_until(from)
    }

    /// Operations of the first `groups` workgroups.
    fn cost_until(&self, groups: u64) -> u64 {
        let (front, front_cost) = match self.split {
            Some(Split::Line { front, .. }) => (u64::from(front.0).min(self.groups()), front.1),
            _ => (0, 0),
        };
        let front_cost = front_cost.min(self.cost);
        let share = |cost: u64, of: u64, all: u64| {
            (u128::from(cost) * u128::from(of) / u128::from(all.max(1))) as u64
        };
        if groups < front {
            share(front_cost, groups, front)
        } else {
            front_cost + share(self.cost - front_cost, groups - front, self.groups() - front)
        }
    }

    /// How many workgroups from `done` on the budget allows: at least one, and all that are left
    /// where the launch cannot be cut.
    fn groups_within(&self, done: u64, budget: u64) -> u64 {
        let left = self.groups() - done;
        if self.split.is_none() {
            return left;
        }
        // Parts of about one size rather than full ones and a small last one.
        let work = self.cost_between(done, self.groups());
        let aim = work / work.div_ceil(budget.max(1)).max(1);
        let (mut fits, mut over) = (1, left + 1);
        while over - fits > 1 {
            let middle = fits + (over - fits) / 2;
            if self.cost_between(done, done + middle) <= aim {
                fits = middle;
            } else {
                over = middle;
            }
        }
        fits
    }

    /// A part of at most `wanted` workgroups from `done` on, and how many it has.
    fn part(&self, done: u64, wanted: u64) -> (Part, u64) {
        match self.split {
            None => (Part { first: [0, 0], workgroups: self.workgroups }, self.groups()),
            Some(Split::Line { .. }) => line(done, wanted, self.groups() - done),
            Some(Split::Plane { .. }) => plane(done, wanted, self.workgroups[0].into()),
        }
    }
}

/// Exactly `count` workgroups of a line if one dimension holds them, else whole rows of a grid: a
/// part that reached into the next would add to the same numbers twice. Only the last may reach
/// beyond the end, where kernels return.
fn line(done: u64, count: u64, left: u64) -> (Part, u64) {
    let (x, y) = match count {
        n if n <= MAX_WORKGROUPS => (n, 1),
        n if n == left => (n.div_ceil(n.div_ceil(MAX_WORKGROUPS)), n.div_ceil(MAX_WORKGROUPS)),
        n => (MAX_WORKGROUPS, n / MAX_WORKGROUPS),
    };
    let part = Part { first: [done as u32, 0], workgroups: [x as u32, y as u32, 1] };
    (part, (x * y).min(left))
}

/// Whole rows of a plane, or a part of one row.
fn plane(done: u64, count: u64, width: u64) -> (Part, u64) {
    let (x, y) = (done % width, done / width);
    let (wide, high) =
        if x == 0 && count >= width { (width, count / width) } else { (count.min(width - x), 1) };
    let part = Part { first: [x as u32, y as u32], workgroups: [wide as u32, high as u32, 1] };
    (part, wide * high)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Budget, Rest};
    use crate::{Access, Command, Dispatch, Kernel, Split};

    static NOTHING: Kernel = Kernel {
        name: "nothing",
        label: "nothing",
        pieces: &[],
        source: "",
        bindings: &[Access::Params],
    };

    fn launch(cost: u64, workgroups: [u32; 3], split: Option<Split>) -> Command {
        Command::Dispatch(Dispatch {
            kernel: &NOTHING,
            constants: vec![],
            params: vec![],
            bindings: vec![],
            workgroups,
            cost,
            serial: 1,
            split,
        })
    }

    fn work(cost: u64) -> Command {
        launch(cost, [1, 1, 1], None)
    }

    /// Pieces and cost of each submission.
    fn cut(items: &[Command], operations: u64, one_layer: bool) -> Vec<(usize, u64)> {
        let mut rest = Rest::new(items);
        let next = || rest.next(Budget { operations, one_layer }).map(|(p, cost)| (p.len(), cost));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_submission_ends_at_the_first_layer_until_the_speed_is_known() {
        let items = [work(1), work(2), Command::Boundary, work(4), Command::Boundary];
        assert_eq!(cut(&items, 100, true), [(2, 3), (1, 4)]);
        assert_eq!(cut(&items, 100, false), [(3, 7)]);
        assert_eq!(cut(&items, 2, true), [(1, 1), (1, 2), (1, 4)]);
    }

    #[test]
    fn a_submission_stays_within_the_budget_but_is_never_empty() {
        let items = [work(5), work(5), work(100), work(1)];
        assert_eq!(cut(&items, 10, false), [(2, 10), (1, 100), (1, 1)]);
        assert_eq!(cut(&items, 1000, false), [(4, 111)]);
    }

    #[test]
    fn a_submission_has_room_for_the_parameters_of_its_launches() {
        let items: Vec<_> = (0..1030).map(|_| work(0)).collect();
        assert_eq!(cut(&items, 10, false), [(512, 0), (512, 0), (6, 0)]);
    }

    /// Every workgroup of a launch in some part, each once, no part over the budget unless it is
    /// one workgroup, no dimension over WebGPU's limit.
    fn check(workgroups: [u32; 3], cost: u64, split: Split, budget: u64) {
        let items = [work(1), launch(cost, workgroups, Some(split)), work(1)];
        let total: u64 = workgroups.iter().map(|&n| u64::from(n)).product();
        let mut rest = Rest::new(&items);
        let mut seen = BTreeSet::new();
        let mut costs = 0;
        while let Some((pieces, cost)) = rest.next(Budget { operations: budget, one_layer: false })
        {
            costs += cost;
            let mut groups = 0;
            for piece in &pieces {
                let Command::Dispatch(dispatch) = piece.command else { continue };
                if dispatch.split.is_none() {
                    continue;
                }
                let ([x0, y0], [nx, ny, nz]) =
                    piece.part.map_or(([0, 0], workgroups), |p| (p.first, p.workgroups));
                assert!(nx <= 65_535 && ny <= 65_535 && nz == 1);
                for i in 0..u64::from(nx) * u64::from(ny) {
                    let index = match split {
                        Split::Line { .. } => u64::from(x0) + i,
                        Split::Plane { .. } => {
                            let (x, y) = (i % u64::from(nx), i / u64::from(nx));
                            assert!(u64::from(x0) + x < u64::from(workgroups[0]));
                            (u64::from(y0) + y) * u64::from(workgroups[0]) + u64::from(x0) + x
                        }
                    };
                    // Beyond the end, kernels return.
                    if index < total {
                        assert!(seen.insert(index), "{index} twice");
                        groups += 1;
                    }
                }
            }
            assert!(cost <= budget.max(1) || groups == 1, "{cost} over {budget} with {groups}");
        }
        assert_eq!(seen.len() as u64, total);
        assert_eq!(costs, cost + 2);
    }

    #[test]
    fn a_launch_over_the_budget_is_cut_into_parts_that_cover_it_once() {
        let even = Split::Line { field: 0, front: (0, 0) };
        let plane = Split::Plane { field: 0 };
        for (workgroups, cost) in
            [([1, 1, 1], 900), ([7, 1, 1], 1000), ([64, 1, 1], 64_000), ([300, 1, 1], 301)]
        {
            for budget in [1, 10, 333, 1000, 100_000] {
                check(workgroups, cost, even, budget);
                check(workgroups, cost, plane, budget);
            }
        }
        for budget in [1, 999, 2000, 5000, 12_345] {
            check([5, 13, 1], 65_000, plane, budget);
            check([1, 40, 1], 65_000, plane, budget);
        }
        // More than one dimension holds.
        check([65_000, 3, 1], 195_000, even, 70_000);
        check([65_000, 3, 1], 195_000, even, 10_000);
    }

    #[test]
    fn a_heavy_front_gets_parts_of_its_own() {
        let split = Split::Line { field: 0, front: (10, 900) };
        check([100, 1, 1], 1000, split, 100);
        let items = [launch(1000, [100, 1, 1], Some(split))];
        let parts = cut(&items, 100, false);
        assert!(parts.iter().all(|&(_, cost)| cost <= 100), "{parts:?}");
        assert!(parts.len() <= 12, "{parts:?}");
    }
}
