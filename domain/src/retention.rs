//! How long content may be read: whole days, counted in UTC.

use chrono::{DateTime, Days, NaiveDate, Utc};

/// The day whose key seals content of that moment. A platform that tells of the future or of a
/// time before platforms is not believed, or its content would never become old or never be kept.
pub fn period(at: DateTime<Utc>, now: DateTime<Utc>) -> NaiveDate {
    at.date_naive()
        .clamp(NaiveDate::default(), now.date_naive())
}

/// The first day whose content is still kept when content is kept for so many days; `None` when it
/// is kept for ever. A day goes as a whole, once its last moment is that old.
pub fn kept_from(now: DateTime<Utc>, days: u16) -> Option<NaiveDate> {
    if days == 0 {
        return None;
    }
    now.date_naive().checked_sub_days(Days::new(days.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_goes_when_its_last_moment_is_too_old() {
        let now = at("2026-03-31T00:00:00Z");
        assert_eq!(kept_from(now, 0), None);
        let first = kept_from(now, 30).unwrap();
        assert_eq!(first.to_string(), "2026-03-01");
        assert_eq!(period(at("2026-03-01T00:00:00Z"), now), first);
        assert!(period(at("2026-02-28T23:59:59Z"), now) < first);
        let later = at("2026-03-31T23:59:59Z");
        assert_eq!(kept_from(later, 30), Some(first));
    }

    #[test]
    fn odd_clocks_are_brought_into_the_time_there_is() {
        let now = at("2026-03-31T12:00:00Z");
        let of = |text| period(at(text), now).to_string();
        assert_eq!(of("2999-01-01T00:00:00Z"), "2026-03-31");
        assert_eq!(of("0001-01-01T00:00:00Z"), "1970-01-01");
        assert_eq!(period(DateTime::<Utc>::MAX_UTC, now), now.date_naive());
        assert_eq!(period(DateTime::<Utc>::MIN_UTC, now), NaiveDate::default());
    }
}
