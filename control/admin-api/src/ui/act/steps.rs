//! An action that is several requests of its route, one after the other, and what is said of
//! how they went.

use std::sync::Arc;

use axum::response::Response;
use pinion_admin_ui::model::{Flash, Level};
use serde_json::Value;

use super::not_done;
use crate::Api;
use crate::access::Who;
use crate::call::{Wanted, ask};
use crate::routes::Route;

/// Requests of one action. Each is a turn of a core and two rows of the audit log: more of
/// them give more back at once, and let whoever sent the form wait longer.
const STEPS_MAX: usize = 256;

/// Requests that may fail before no further one is asked: each may wait as long as a core may
/// take for its answer, and what they fail of is mostly the same.
const FAILURES_MAX: usize = 3;

/// Outcomes that are told one by one; of those beyond it is said how many they are.
const TOLD_MAX: usize = 8;

/// Bytes of an answer that says how many messages move.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// One request.
pub(super) struct Step {
    /// What its row of the audit log says of its target.
    pub(super) target: String,
    /// What it is about, for people.
    pub(super) about: String,
    pub(super) wanted: Wanted,
}

/// The requests of one action, at most [`STEPS_MAX`].
pub(super) struct Steps {
    all: Vec<Step>,
    /// How many there would be besides.
    beyond: usize,
}

impl Steps {
    pub(super) fn new(mut all: Vec<Step>) -> Self {
        let beyond = all.len().saturating_sub(STEPS_MAX);
        all.truncate(STEPS_MAX);
        Self { all, beyond }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|step| &*step.target)
    }

    /// That these are not all, if they are not.
    pub(super) fn bounded(&self) -> Option<String> {
        (self.beyond > 0).then(|| {
            format!(
                "It is done to {STEPS_MAX} partitions and groups at once; {} are left for the next time.",
                self.beyond
            )
        })
    }

    /// Asks one after the other, and says what came of it. One that fails holds up no other,
    /// up to [`FAILURES_MAX`].
    pub(super) async fn perform(
        self,
        api: &Arc<Api>,
        route: &'static Route,
        who: &Who,
        (queue, number): (&str, u128),
    ) -> Flash {
        let (mut outcomes, mut left) = (Vec::new(), self.beyond);
        let mut failures = 0;
        for step in self.all {
            if failures == FAILURES_MAX {
                left += 1;
                continue;
            }
            let outcome = match ask(api, route, who, number, step.wanted).await {
                Ok(response) => moved(response).await,
                Err(failure) => Err(not_done(&failure).text),
            };
            failures += usize::from(outcome.is_err());
            outcomes.push((step.about, outcome));
        }
        told(queue, &outcomes, left)
    }
}

/// How many messages an answer says that move.
async fn moved(response: Response) -> Result<u64, String> {
    let body = axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await;
    let answer = body.ok().and_then(|body| {
        let answer: Value = serde_json::from_slice(&body).ok()?;
        answer["messages"].as_u64()
    });
    answer.ok_or_else(|| "It was done; how many move is not known".to_owned())
}

/// What is said of dead letters of a queue that were to be given back.
fn told(queue: &str, outcomes: &[(String, Result<u64, String>)], left: usize) -> Flash {
    if outcomes.is_empty() && left == 0 {
        return Flash {
            level: Level::Info,
            text: format!("{queue} has no dead letter to give back."),
        };
    }
    let counts = outcomes.iter().filter_map(|(about, outcome)| {
        let count = outcome.as_ref().ok()?;
        Some((about, *count))
    });
    let all: u64 = counts.clone().map(|(_, count)| count).sum();
    let (what, are) = match all {
        1 => ("dead letter", "is"),
        _ => ("dead letters", "are"),
    };
    let mut text = format!("{all} {what} of {queue} {are} being given back");
    let mut parts: Vec<String> = counts
        .clone()
        .take(TOLD_MAX)
        .map(|(about, count)| format!("{about}: {count}"))
        .collect();
    let more = counts.count().saturating_sub(TOLD_MAX);
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    if !parts.is_empty() {
        text.push_str(&format!(" ({})", parts.join("; ")));
    }
    text.push('.');
    let mut failed = false;
    for (about, outcome) in outcomes {
        if let Err(why) = outcome {
            failed = true;
            text.push_str(&format!(" Of {about}: {}.", why.trim_end_matches('.')));
        }
    }
    if left > 0 {
        text.push_str(&format!(
            " {left} more partitions and groups were not asked: do it again for those."
        ));
    }
    let level = match (failed || left > 0, all) {
        (false, _) => Level::Ok,
        (true, 0) => Level::Bad,
        (true, _) => Level::Warn,
    };
    Flash { level, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(outcomes: &[(&str, Result<u64, &str>)], left: usize) -> (Level, String) {
        let owned = |(about, outcome): &(&str, Result<u64, &str>)| {
            (about.to_string(), outcome.map_err(str::to_owned))
        };
        let outcomes: Vec<_> = outcomes.iter().map(owned).collect();
        let flash = told("pay/mail", &outcomes, left);
        (flash.level, flash.text)
    }

    #[test]
    fn what_became_of_each_partition_and_group_is_said() {
        let all = [
            ("partition 0", Ok(12)),
            ("partition 1, group archive", Ok(25)),
        ];
        let text = "37 dead letters of pay/mail are being given back \
                    (partition 0: 12; partition 1, group archive: 25).";
        assert_eq!(said(&all, 0), (Level::Ok, text.to_owned()));
        let one = said(&[("partition 0", Ok(1))], 0).1;
        assert!(
            one.starts_with("1 dead letter of pay/mail is being"),
            "{one}"
        );
        let some = [
            ("partition 0", Ok(2)),
            ("partition 3", Err("Nothing was done: gone.")),
        ];
        let (level, text) = said(&some, 4);
        assert_eq!(level, Level::Warn);
        assert!(text.contains("(partition 0: 2)."), "{text}");
        assert!(
            text.contains(" Of partition 3: Nothing was done: gone."),
            "{text}"
        );
        assert!(
            text.ends_with("4 more partitions and groups were not asked: do it again for those.")
        );
        let (level, text) = said(&[("partition 3", Err("why"))], 0);
        assert_eq!(level, Level::Bad);
        assert_eq!(
            text,
            "0 dead letters of pay/mail are being given back. Of partition 3: why."
        );
        assert_eq!(said(&[], 0).0, Level::Info);
        let many = vec![("partition 7", Ok(1)); 20];
        let (_, text) = said(&many, 0);
        assert_eq!(text.matches("partition 7: 1").count(), TOLD_MAX);
        assert!(text.ends_with("; 12 more)."), "{text}");
    }

    #[test]
    fn an_action_has_so_many_steps_and_says_how_many_are_left() {
        let step = |number: usize| Step {
            target: number.to_string(),
            about: String::new(),
            wanted: Wanted::default(),
        };
        let steps = Steps::new((0..STEPS_MAX).map(step).collect());
        assert_eq!(
            (steps.targets().count(), steps.bounded()),
            (STEPS_MAX, None)
        );
        let steps = Steps::new((0..STEPS_MAX + 5).map(step).collect());
        assert_eq!(steps.targets().count(), STEPS_MAX);
        let said = steps.bounded().expect("five are left");
        assert!(said.contains("5 are left"), "{said}");
    }
}
