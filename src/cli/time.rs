//! Times on the command line.

/// What a time looks like.
pub(super) const TIME_HELP: &str = "write 8h, 90m or 45s";

/// A time such as 8h, 90m or 45s.
pub(super) fn duration(text: &str) -> Option<std::time::Duration> {
    let split = text.char_indices().next_back()?.0;
    let (number, unit) = text.split_at_checked(split)?;
    let factor = match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        _ => return None,
    };
    let seconds = number.parse::<f64>().ok()? * factor;
    std::time::Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero())
}

/// From a local time to the next time of day that a string names.
pub(super) fn until(text: &str, now: &jiff::Zoned) -> Option<std::time::Duration> {
    let time = jiff::civil::Time::strptime("%H:%M", text).ok()?;
    let on = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(now.time_zone().clone()).ok();
    let today = on(now.date())?;
    let at = if today > *now { today } else { on(now.date().tomorrow().ok()?)? };
    // A change of the clocks in between is accounted for: what is returned is elapsed time.
    at.timestamp().duration_since(now.timestamp()).try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("8h"), Some(Duration::from_secs(28_800)));
        assert_eq!(duration("0.5m"), Some(Duration::from_secs(30)));
        for text in ["8", "h", "", "-1h", "8d", "é", "1e30h", "infs", "nanh", "0h"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_of_day_that_is_past_is_tomorrows() {
        let now: jiff::Zoned = "2026-01-02T22:30:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(until("23:00", &now), Some(Duration::from_secs(1800)));
        assert_eq!(until("07:00", &now), Some(Duration::from_secs(8 * 3600 + 1800)));
        assert_eq!(until("25:00", &now), None);
    }

    #[test]
    fn a_time_of_day_after_the_clocks_are_changed_is_as_far_as_time_passes() {
        let now: jiff::Zoned = "2026-03-28T22:00:00+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(until("07:00", &now), Some(Duration::from_secs(8 * 3600)));
    }
}
