//! Why a queue delivers nothing, in words: the reasons that its partitions give, those of
//! one sort together.

use pinion_admin_ui::format::count;
use pinion_admin_ui::model::{Level, Quantity, WhyRow};

use super::spec::fact;
use crate::views::queues::WhyFacts;

fn level(code: &str) -> Level {
    match code {
        "fenced" | "read_only" => Level::Bad,
        "no_consumers" | "no_credit" | "group_in_flight" | "consumer_in_flight" | "key_blocked" => {
            Level::Warn
        }
        "empty" | "delivering" => Level::Ok,
        _ => Level::Info,
    }
}

/// What a person is to do about it; nothing where nothing is to be done.
fn advice(code: &str) -> &'static str {
    match code {
        "delayed" => "They are given out by themselves when their time comes.",
        "backoff" => "They are given out by themselves. What is in flight says why they failed.",
        "group_in_flight" => "Look at what is in flight, or raise what a group may have.",
        "consumer_in_flight" => "Look at what its consumers do, or raise what one may have.",
        "rate_limited" => "It is bounded so that failures do not take the place of new work.",
        "key_blocked" => "The message that is in the way must be acknowledged, or fail for good.",
        "no_consumers" => "Start a consumer: pinion queue consume.",
        "no_credit" => "Consumers are connected and do not read what they were given.",
        "read_only" => "A message that is given out must be written down first: free space.",
        "fenced" => "Look at the log of the node, and check its files: pinion log verify.",
        _ => "",
    }
}

/// Reasons of one code for one group, over partitions.
struct Together<'a> {
    first: &'a WhyFacts,
    /// The one whose message is reserved longest.
    longest: &'a WhyFacts,
    messages: u64,
    until: Option<u64>,
    partitions: Vec<u16>,
}

/// Reasons for people, worst first. Of a group that something is kept from, partitions that
/// are well are not told.
pub(crate) fn rows(said: &[WhyFacts], now_unix_ms: u64) -> Vec<WhyRow> {
    let mut all: Vec<Together<'_>> = Vec::new();
    for one in said {
        let until = one.until.map(|at| at.0.0);
        let same = all
            .iter_mut()
            .find(|other| other.first.group == one.group && other.first.code == one.code);
        match same {
            Some(of) => {
                of.messages = of.messages.saturating_add(one.messages);
                of.until = match (of.until, until) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                of.partitions.push(one.family);
                if one.age_seconds > of.longest.age_seconds {
                    of.longest = one;
                }
            }
            None => all.push(Together {
                first: one,
                longest: one,
                messages: one.messages,
                until,
                partitions: vec![one.family],
            }),
        }
    }
    let is_well = |one: &Together<'_>| level(one.first.code) == Level::Ok;
    let held: Vec<&str> = all
        .iter()
        .filter(|one| !is_well(one))
        .map(|one| one.first.group.as_str())
        .collect();
    let delivering: Vec<&str> = all
        .iter()
        .filter(|one| one.first.code == "delivering")
        .map(|one| one.first.group.as_str())
        .collect();
    let mut told: Vec<&Together<'_>> = all
        .iter()
        .filter(|one| {
            let group = one.first.group.as_str();
            let better = match one.first.code {
                "empty" => held.contains(&group) || delivering.contains(&group),
                _ => is_well(one) && held.contains(&group),
            };
            !better
        })
        .collect();
    told.sort_by_key(|one| {
        let worst = core::cmp::Reverse(level(one.first.code));
        (worst, core::cmp::Reverse(one.messages), &one.first.group)
    });
    told.into_iter().map(|one| row(one, now_unix_ms)).collect()
}

/// Partitions that a reason names.
const PARTITIONS_MAX: usize = 16;

fn row(of: &Together<'_>, now_unix_ms: u64) -> WhyRow {
    let WhyFacts {
        group,
        code,
        message,
        limit,
        ..
    } = of.first;
    let mut facts = Vec::new();
    let mut add = |there: bool, name: &str, value: Quantity| {
        if there {
            facts.push(fact(name, value));
        }
    };
    add(of.messages > 0, "Messages", Quantity::Count(of.messages));
    add(*limit > 0, "Limit", Quantity::Count(*limit));
    if let Some(until) = of.until {
        add(true, "Until", Quantity::UnixMs(until));
        let left = until.saturating_sub(now_unix_ms);
        add(true, "That is in", Quantity::SpanMs(left));
    }
    let oldest = of.longest;
    let named = format!("{}/{}", oldest.family, oldest.message_id);
    add(
        oldest.message_id > 0 || *code == "key_blocked",
        "Message in the way",
        Quantity::Code(named),
    );
    let held_ms = oldest.age_seconds.saturating_mul(1_000);
    add(held_ms > 0, "Held for", Quantity::SpanMs(held_ms));
    let some = of.partitions.iter().take(PARTITIONS_MAX);
    let mut list = some.map(u16::to_string).collect::<Vec<_>>().join(", ");
    let more = of.partitions.len().saturating_sub(PARTITIONS_MAX);
    if more > 0 {
        list.push_str(&format!(" and {} more", count(more as u64)));
    }
    add(level(code) != Level::Ok, "Partitions", Quantity::Text(list));
    WhyRow {
        group: group.clone(),
        level: level(code),
        code: (*code).to_owned(),
        text: message.trim_end_matches('.').to_owned(),
        facts,
        advice: advice(code).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::At;
    use pinion_types::WallMs;

    fn said(group: &str, family: u16, code: &'static str, messages: u64) -> WhyFacts {
        WhyFacts {
            family,
            group: group.to_owned(),
            code,
            message: "Why.",
            messages,
            limit: 0,
            until: None,
            message_id: 0,
            age_seconds: 0,
        }
    }

    fn fact_of<'a>(row: &'a WhyRow, name: &str) -> Option<&'a Quantity> {
        let found = row.facts.iter().find(|fact| fact.name == name);
        found.map(|fact| &fact.value)
    }

    #[test]
    fn partitions_that_say_the_same_are_one_row() {
        let mut early = said("", 1, "delayed", 3);
        early.until = Some(At(WallMs(5_000)));
        let mut late = said("", 2, "delayed", 4);
        late.until = Some(At(WallMs(9_000)));
        let rows = rows(&[late, early], 2_000);
        assert_eq!(rows.len(), 1);
        assert!(matches!(
            fact_of(&rows[0], "Messages"),
            Some(Quantity::Count(7))
        ));
        assert!(matches!(
            fact_of(&rows[0], "That is in"),
            Some(Quantity::SpanMs(3_000))
        ));
        let list = fact_of(&rows[0], "Partitions");
        assert!(matches!(list, Some(Quantity::Text(text)) if text == "2, 1"));
        assert_eq!(rows[0].text, "Why");
    }

    #[test]
    fn the_worst_comes_first_and_a_partition_that_is_well_explains_nothing() {
        let rows = rows(
            &[
                said("", 0, "empty", 0),
                said("", 1, "delayed", 9),
                said("", 2, "no_consumers", 1),
                said("", 3, "delivering", 0),
                said("b", 0, "empty", 0),
                said("c", 0, "empty", 0),
                said("c", 1, "delivering", 0),
            ],
            0,
        );
        let told: Vec<(&str, &str)> = rows
            .iter()
            .map(|row| (row.group.as_str(), row.code.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("", "no_consumers"),
                ("", "delayed"),
                ("b", "empty"),
                ("c", "delivering"),
            ]
        );
        assert_eq!(rows[2].level, Level::Ok);
    }

    #[test]
    fn the_message_that_is_held_longest_is_named() {
        let mut first = said("", 0, "consumer_in_flight", 0);
        (first.message_id, first.age_seconds) = (41, 10);
        let mut second = said("", 7, "consumer_in_flight", 0);
        (second.message_id, second.age_seconds) = (42, 900);
        let rows = rows(&[first, second], 0);
        let message = fact_of(&rows[0], "Message in the way");
        assert!(matches!(message, Some(Quantity::Code(one)) if one == "7/42"));
        assert!(matches!(
            fact_of(&rows[0], "Held for"),
            Some(Quantity::SpanMs(900_000))
        ));
    }
}
