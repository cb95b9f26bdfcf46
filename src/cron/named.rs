//! PocketBase's grammar with the names of months and weekdays, for our own schedules.
//!
//! Names are three letters in any case; a range of weekdays by name may go over the weekend
//! (`FRI-MON`), and `7` is a Sunday, as most crons have it. What this makes of a text is read by
//! [`Schedule::parse`], whose errors it keeps.

use crate::cron::{ParseError, Schedule, error};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Parses an expression of five fields, also with names, or a macro in any case.
///
/// # Errors
/// What is wrong with it, in PocketBase's words where they fit.
pub fn parse(expression: &str) -> Result<Schedule, ParseError> {
    let text = expression.trim().to_lowercase();
    if text.starts_with('@') {
        return Schedule::parse(&text);
    }
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if let [_, _, _, months, weekdays] = fields.as_mut_slice() {
        *months = parts(months, |part| numbered(part, &MONTHS, 1))?;
        *weekdays = parts(weekdays, weekday)?;
    }
    Schedule::parse(&fields.join(" "))
}

fn parts(
    field: &str,
    one: impl Fn(&str) -> Result<String, ParseError>,
) -> Result<String, ParseError> {
    let parts: Result<Vec<String>, ParseError> = field.split(',').map(one).collect();
    parts.map(|parts| parts.join(","))
}

/// A part of a field with numbers in place of the names.
fn numbered(part: &str, names: &[&str], first: usize) -> Result<String, ParseError> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let number = |word: &str| match names.iter().position(|name| *name == word) {
        Some(index) => Ok((index + first).to_string()),
        None if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            error(format!("invalid name {word:?} - must be one of {}", names.join(", ")))
        }
        None => Ok(word.to_owned()),
    };
    let ends: Result<Vec<String>, ParseError> = range.split('-').map(number).collect();
    let range = ends?.join("-");
    Ok(step.map_or(range.clone(), |step| format!("{range}/{step}")))
}

/// The same for a weekday: Sunday may be the last day of a week as well as the first.
fn weekday(part: &str) -> Result<String, ParseError> {
    let plain = numbered(part, &WEEKDAYS, 0)?;
    if plain == "7" {
        return Ok("0".to_owned());
    }
    let ends = plain.split_once('-').and_then(|(first, last)| {
        Some((first.parse::<u8>().ok()?, last.parse::<u8>().ok().filter(|last| *last <= 7)?))
    });
    Ok(match ends {
        Some((first @ 1..=6, 7)) => format!("{first}-6,0"),
        Some((0, 7)) => "0-6".to_owned(),
        Some((first @ 1..=6, last)) if last < first => format!("{first}-6,0-{last}"),
        _ => plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_numbers() {
        for (text, means) in [
            ("0 3 * JAN,jul Mon-Fri", "0 3 * 1,7 1-5"),
            ("0 3 1 feb-nov/3 *", "0 3 1 2-11/3 *"),
            ("0 3 * * FRI-MON", "0 3 * * 5-6,0-1"),
            ("0 3 * * SAT-SUN", "0 3 * * 6-6,0-0"),
            ("0 3 * * 1-7", "0 3 * * 1-6,0"),
            ("0 3 * * 7", "0 3 * * 0"),
            ("  30 2  * * *  ", "30 2 * * *"),
            ("@Daily", "0 0 * * *"),
        ] {
            let schedule = parse(text).expect(text);
            assert_eq!(schedule.expression(), means, "{text}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for (text, word) in [
            ("0 3 * foo *", "\"foo\""),
            ("0 3 * * monday", "\"monday\""),
            ("0 3 * mon *", "\"mon\""),
            ("0 3 * *", "5 space"),
            ("60 3 * * *", "between the min and max"),
            ("0 3 * dec-jan *", "maximum"),
            ("@every 5m", "macro"),
            ("", "5 space"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-*,/0-9 @a-zA-Z\\PC]{0,40}") {
            let _ = parse(&text);
        }
    }
}
