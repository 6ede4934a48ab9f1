//! HTTP-date to and from Unix seconds: strict in structure, any letter case (RFC 9110 §5.6.7).

use super::fields::{decimal, trim_ows};

const DAY: i64 = 86_400;
/// The first and the last second that a year of four digits can name.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;

const DAY_NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAY_NAMES_LONG: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads an HTTP-date in any of its three forms (RFC 9110 §5.6.7).
///
/// The weekday need not be that of the date; `now` settles the century of a two-digit year.
pub(crate) fn parse(value: &[u8], now: i64) -> Option<i64> {
    let scan = Scan(trim_ows(value));
    imf_fixdate(scan).or_else(|| rfc850_date(scan, now)).or_else(|| asctime_date(scan))
}

/// Writes an IMF-fixdate, the one form to send, clamped to its years (RFC 9110 §5.6.7).
pub(crate) fn format(unix: i64) -> String {
    let unix = unix.clamp(FIRST, LAST);
    let (days, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    // Day 0 was a Thursday.
    let day_name = nth(&DAY_NAMES, (days + 4).rem_euclid(7));
    let month = nth(&MONTHS, month - 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // By hand: what `format!` takes for it is a good part of a miss.
    let mut text = String::with_capacity(29);
    text.push_str(day_name);
    text.push_str(", ");
    push_digits(&mut text, day, 10);
    text.push(' ');
    text.push_str(month);
    text.push(' ');
    push_digits(&mut text, year, 1_000);
    for (before, number) in [(' ', hour), (':', minute), (':', second)] {
        text.push(before);
        push_digits(&mut text, number, 10);
    }
    text.push_str(" GMT");
    text
}

/// Writes a number with zeros in front; `unit` is that of its first digit.
fn push_digits(text: &mut String, number: i64, mut unit: i64) {
    while unit > 0 {
        let digit = u32::try_from(number / unit % 10).unwrap_or(0);
        text.push(char::from_digit(digit, 10).unwrap_or('0'));
        unit /= 10;
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(mut scan: Scan) -> Option<i64> {
    scan.one_of(&DAY_NAMES)?;
    scan.word(", ")?;
    let day = scan.number(2)?;
    scan.word(" ")?;
    let month = scan.month()?;
    scan.word(" ")?;
    let year = scan.number(4)?;
    scan.word(" ")?;
    let second = scan.time_of_day()?;
    scan.word(" GMT")?;
    scan.end()?;
    unix((year, month, day), second)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(mut scan: Scan, now: i64) -> Option<i64> {
    scan.one_of(&DAY_NAMES_LONG)?;
    scan.word(", ")?;
    let day = scan.number(2)?;
    scan.word("-")?;
    let month = scan.month()?;
    scan.word("-")?;
    let digits = scan.number(2)?;
    scan.word(" ")?;
    let second = scan.time_of_day()?;
    scan.word(" GMT")?;
    scan.end()?;

    // What seems more than 50 years ahead lies in the past (RFC 9110 §5.6.7): take the last year
    // with these digits before the horizon, or a century less if the date in it is beyond.
    let now = now.clamp(FIRST, LAST);
    let (this_year, this_month, today) = civil(now.div_euclid(DAY));
    let last_year = this_year + 50;
    let horizon = ((last_year, this_month, today), now.rem_euclid(DAY));
    let year = last_year - (last_year - digits).rem_euclid(100);
    let date =
        if ((year, month, day), second) > horizon { (year - 100, month, day) } else { (year, month, day) };
    unix(date, second)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(mut scan: Scan) -> Option<i64> {
    scan.one_of(&DAY_NAMES)?;
    scan.word(" ")?;
    let month = scan.month()?;
    scan.word(" ")?;
    let day = match scan.word(" ") {
        Some(()) => scan.number(1)?,
        None => scan.number(2)?,
    };
    scan.word(" ")?;
    let second = scan.time_of_day()?;
    scan.word(" ")?;
    let year = scan.number(4)?;
    scan.end()?;
    unix((year, month, day), second)
}

/// The part of a date that is still to read.
#[derive(Clone, Copy)]
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// The grammar is case-sensitive, but a name in another case has only one meaning.
    fn word(&mut self, word: &str) -> Option<()> {
        let (head, rest) = self.0.split_at_checked(word.len())?;
        head.eq_ignore_ascii_case(word.as_bytes()).then(|| self.0 = rest)
    }

    fn one_of(&mut self, words: &[&str]) -> Option<i64> {
        (0..).zip(words).find_map(|(n, word)| self.word(word).map(|()| n))
    }

    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        decimal(head)?.try_into().ok()
    }

    fn month(&mut self) -> Option<i64> {
        self.one_of(&MONTHS).map(|n| n + 1)
    }

    /// Seconds since midnight; second 60 is a leap second, and the same as the next one.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        self.word(":")?;
        let minute = self.number(2)?;
        self.word(":")?;
        let second = self.number(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

type Civil = (i64, i64, i64);

/// The Unix time of a date and a time of day, if the month has that day.
fn unix(date: Civil, second: i64) -> Option<i64> {
    let days = days(date);
    let unix = days * DAY + second;
    (civil(days) == date && (FIRST..=LAST).contains(&unix)).then_some(unix)
}

// Years are counted from March here, so that the leap day is the last one of its year.

/// The days from 1 March of the year 0 to 1 January 1970.
const EPOCH: i64 = 719_468;

fn days((year, month, day): Civil) -> i64 {
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    days_before_year(year) + days_before_month(month) + day - 1 - EPOCH
}

fn civil(days: i64) -> Civil {
    let days = days + EPOCH;
    // Years of the mean length, 146097 days in 400 years, tell the year or the one after it.
    let guess = ((days + 2) * 400).div_euclid(146_097);
    let year = if days_before_year(guess) > days { guess - 1 } else { guess };
    let day_of_year = days - days_before_year(year);
    let month = (day_of_year * 5 + 2) / 153;
    let day = day_of_year - days_before_month(month) + 1;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

fn days_before_year(year: i64) -> i64 {
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400)
}

/// From March on, month lengths repeat every 5 months, or 153 days.
fn days_before_month(month: i64) -> i64 {
    (month * 153 + 2) / 5
}

fn nth(names: &[&'static str], n: i64) -> &'static str {
    usize::try_from(n).ok().and_then(|n| names.get(n)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    const EXAMPLE: i64 = 784_111_777;
    /// Thu, 01 Jan 2026 00:00:00 GMT
    const NOW: i64 = 1_767_225_600;

    fn read(value: &str) -> Option<i64> {
        parse(value.as_bytes(), NOW)
    }

    #[test]
    fn all_three_forms_are_read() {
        for good in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun Nov 06 08:49:37 1994",
            " \tSun, 06 Nov 1994 08:49:37 GMT\t ",
        ] {
            assert_eq!(read(good), Some(EXAMPLE), "{good}");
        }
    }

    #[test]
    fn letter_case_and_the_right_weekday_do_not_matter() {
        for good in [
            "SUN, 06 nov 1994 08:49:37 gMT",
            "mON, 06 NOV 1994 08:49:37 gmt",
            "WEDNESDAY, 06-NOV-94 08:49:37 Gmt",
            "tue nov  6 08:49:37 1994",
        ] {
            assert_eq!(read(good), Some(EXAMPLE), "{good}");
        }
    }

    #[test]
    fn years_past_2038_are_read() {
        assert_eq!(read("Tue, 19 Jan 2038 14:14:08 GMT"), Some(2_147_523_248));
        assert_eq!(read("Sun, 21 Nov 2286 04:46:39 GMT"), Some(10_000_039_599));
        assert_eq!(read("Thursday, 18-Aug-50 02:01:18 GMT"), read("Thu, 18 Aug 2050 02:01:18 GMT"));
        assert_eq!(read("Thu Aug  8 02:01:18 2050"), read("Mon, 08 Aug 2050 02:01:18 GMT"));
    }

    #[test]
    fn other_structures_are_refused() {
        for bad in [
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu,18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu,  18 Aug 2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18-Aug-50 02:01:18 GMT",
            "Thursday, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 02:01 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 18 August 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:19 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT; a",
            "x Thu, 18 Aug 2050 02:01:18 GMT",
            "Foo, 18 Aug 2050 02:01:18 GMT",
            "Thu, +8 Aug 2050 02:01:18 GMT",
            "Thu Aug 8 02:01:18 2050",
            "Thu Aug   8 02:01:18 2050",
            "Thu Aug  8 02:01:18 2050 GMT",
            "Thu Aug  8 02:01:18 50",
            "18 Aug 2050 02:01:18 GMT",
            "2050-08-18T02:01:18Z",
            "2544314478",
            "0",
            "",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_day_must_be_in_the_month() {
        for bad in ["00 Jan 2023", "32 Jan 2023", "29 Feb 2023", "31 Apr 2023", "29 Feb 1900"] {
            assert_eq!(read(&format!("Sun, {bad} 00:00:00 GMT")), None, "{bad}");
        }
        for good in ["29 Feb 2024", "29 Feb 2000", "31 Dec 2023", "29 Feb 0000"] {
            assert!(read(&format!("Sun, {good} 00:00:00 GMT")).is_some(), "{good}");
        }
    }

    #[test]
    fn the_time_must_be_on_the_clock() {
        for bad in ["24:00:00", "23:60:00", "23:59:61", "99:99:99"] {
            assert_eq!(read(&format!("Sun, 06 Nov 1994 {bad} GMT")), None, "{bad}");
        }
        let leap = read("Sat, 31 Dec 2016 23:59:60 GMT");
        assert!(leap.is_some() && leap == read("Sun, 01 Jan 2017 00:00:00 GMT"));
    }

    #[test]
    fn four_digits_of_year_are_the_limits() {
        assert_eq!(read("Sat, 01 Jan 0000 00:00:00 GMT"), Some(FIRST));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LAST));
        assert_eq!(read("Fri, 31 Dec 9999 23:59:60 GMT"), None);
        assert_eq!(format(i64::MIN), "Sat, 01 Jan 0000 00:00:00 GMT");
        assert_eq!(format(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn two_digits_of_year_reach_50_years_ahead_and_no_further() {
        let year_of = |value: &str, now: &str| {
            let now = read(now).expect("now is a date");
            parse(value.as_bytes(), now).map(|unix| civil(unix.div_euclid(DAY)).0)
        };
        let now = "Wed, 15 Jul 2026 12:00:00 GMT";
        assert_eq!(year_of("Wednesday, 15-Jul-76 12:00:00 GMT", now), Some(2076));
        assert_eq!(year_of("Wednesday, 15-Jul-76 12:00:01 GMT", now), Some(1976));
        assert_eq!(year_of("Wednesday, 14-Jul-76 23:00:00 GMT", now), Some(2076));
        assert_eq!(year_of("Wednesday, 01-Aug-76 00:00:00 GMT", now), Some(1976));
        assert_eq!(year_of("Wednesday, 01-Jan-77 00:00:00 GMT", now), Some(1977));
        assert_eq!(year_of("Wednesday, 01-Jan-00 00:00:00 GMT", now), Some(2000));
        assert_eq!(year_of("Wednesday, 01-Jan-05 00:00:00 GMT", "Thu, 31 Dec 2099 00:00:00 GMT"), Some(2105));
    }

    #[test]
    fn the_clock_may_stand_anywhere() {
        for now in [i64::MIN, FIRST, 0, LAST, i64::MAX] {
            parse(b"Sunday, 06-Nov-94 08:49:37 GMT", now);
            parse(b"Sunday, 29-Feb-00 23:59:60 GMT", now);
        }
    }

    #[test]
    fn the_form_sent_is_imf_fixdate() {
        assert_eq!(format(EXAMPLE), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(-1), "Wed, 31 Dec 1969 23:59:59 GMT");
        assert_eq!(format(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn the_calendar_has_every_day_once() {
        let month_length = |year: i64, month| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut day = FIRST / DAY;
        for year in 0..=9999 {
            for month in 1..=12 {
                for date in (1..=month_length(year, month)).map(|day| (year, month, day)) {
                    assert_eq!((days(date), civil(day)), (day, date));
                    day += 1;
                }
            }
        }
        assert_eq!(day - 1, LAST / DAY);
    }

    #[test]
    fn a_long_value_is_refused() {
        for unit in [" ", "Sun, ", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(read(&unit.repeat(100_000 / unit.len())), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(unix in FIRST..=LAST, now: i64) {
            prop_assert_eq!(parse(format(unix).as_bytes(), now), Some(unix));
        }

        #[test]
        fn no_bytes_cause_a_panic(value: Vec<u8>, now: i64) {
            parse(&value, now);
        }

        #[test]
        fn what_looks_like_a_date_causes_no_panic(
            value in "(Sun|Sunday),? [0-9]{2}[ -]Feb[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
            now: i64,
        ) {
            let unix = parse(value.as_bytes(), now).unwrap_or(0);
            prop_assert!((FIRST..=LAST).contains(&unix));
        }
    }
}
