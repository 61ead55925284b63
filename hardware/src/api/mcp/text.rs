//! Answers in a few lines, for agents that read text alone. What they leave out is in the JSON beside them.

use std::fmt::Write;

use hardware_api::{
    AvailabilityPage, CheckAnswer, Checked, NonePicked, Picked, Pool, Problem, Reason,
};

pub(super) fn of_check(answer: &CheckAnswer) -> String {
    format!("The worst level is {}.{}", answer.level, of_each("items", &answer.items))
}

pub(super) fn of_picked(picked: &Picked) -> String {
    format!("preferences[{}] can be had: {}", picked.preference, of_pool(&picked.pool))
}

pub(super) fn of_none_picked(none: &NonePicked) -> String {
    format!(
        "Nothing to pick: {}.{}",
        none.problem.detail,
        of_each("preferences", &none.preferences)
    )
}

pub(super) fn of_page(page: &AvailabilityPage) -> String {
    let mut text = match page.items.len() {
        0 => "No pool matches.".to_owned(),
        1 => "1 pool:".to_owned(),
        count => format!("{count} pools:"),
    };
    for pool in &page.items {
        add_line(&mut text, &of_pool(pool));
    }
    let cursor = page.next.as_ref().and_then(|next| next.rsplit_once("cursor="));
    if let Some((_, cursor)) = cursor {
        add_line(&mut text, &format!("There are more: ask the same with cursor {cursor}"));
    }
    text
}

/// What is wrong, and what may stand there if it is one of a few.
pub(super) fn of_problem(problem: &Problem) -> String {
    match &problem.allowed {
        Some(allowed) => format!("{}; allowed: {}", problem.detail, allowed.join(", ")),
        None => problem.detail.clone(),
    }
}

fn of_each(list: &str, answers: &[Checked]) -> String {
    let mut text = String::new();
    for (place, checked) in answers.iter().enumerate() {
        let said = match (&checked.pool, &checked.problem) {
            (Some(pool), _) => of_pool(pool),
            (None, Some(problem)) => of_problem(problem),
            (None, None) => format!("{}. {}", checked.level, of_reasons(&checked.reasons)),
        };
        add_line(&mut text, &format!("{list}[{place}]: {said}"));
    }
    text
}

fn of_pool(pool: &Pool) -> String {
    let mut text = format!("{} for {}: {} {}", pool.level, pool.units, pool.provider, pool.name);
    for (field, value) in [("region", &pool.region), ("zone", &pool.zone), ("tier", &pool.tier)] {
        if !value.is_empty() {
            write_to(&mut text, format_args!(", {field} {value}"));
        }
    }
    if let (Some(free), Some(total)) = (pool.free, pool.total) {
        write_to(&mut text, format_args!(", {free} of {total} free"));
    }
    write_to(&mut text, format_args!(". {}", of_reasons(&pool.reasons)));
    text
}

fn of_reasons(reasons: &[Reason]) -> String {
    let sentences: Vec<&str> = reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    sentences.join(" ")
}

fn add_line(text: &mut String, line: &str) {
    write_to(text, format_args!("\n{line}"));
}

fn write_to(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}
