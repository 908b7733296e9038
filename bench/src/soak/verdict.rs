//! Whether the end of a soak is like its beginning.

use std::fmt::Write as _;

use super::watch::Sample;

/// This share of the samples, the first ones, is not judged: caches fill and the collector begins to keep up.
const WARMING_UP: f64 = 0.15;

/// What one figure may do between the first third and the last.
struct Rule {
    what: &'static str,
    of: fn(&Sample) -> f64,
    /// The last third's median may be so many times the first's,
    times: f64,
    /// and so much more.
    plus: f64,
}

const RULES: [Rule; 5] = [
    Rule { what: "resident MiB", of: |sample| sample.resident_mib, times: 1.1, plus: 8.0 },
    Rule { what: "open descriptors", of: |sample| sample.descriptors as f64, times: 1.0, plus: 8.0 },
    // A pool of bounded size takes as many as the busiest moment needs, and gives them back late.
    Rule { what: "threads", of: |sample| sample.threads as f64, times: 1.0, plus: 32.0 },
    Rule { what: "MiB of write-ahead log", of: |sample| sample.log_mib, times: 1.5, plus: 16.0 },
    Rule { what: "p99 in ms", of: |sample| sample.p99_ms, times: 2.0, plus: 0.0 },
];

/// What grew or got slower, in words.
pub fn judge(samples: &[Sample]) -> Vec<String> {
    let judged = &samples[(samples.len() as f64 * WARMING_UP).ceil() as usize..];
    let third = judged.len() / 3;
    if third < 3 {
        return vec![format!("{} samples are too few to judge: let it run longer", samples.len())];
    }
    let (first, last) = (&judged[..third], &judged[judged.len() - third..]);
    let grown = RULES.iter().filter_map(|rule| {
        let (before, after) = (median(first, rule.of), median(last, rule.of));
        let most = before * rule.times + rule.plus;
        (after > most).then(|| {
            format!("{} went from {before:.1} to {after:.1}, at most {most:.1} is allowed", rule.what)
        })
    });
    grown.collect()
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The samples as a Markdown table.
pub fn table(samples: &[Sample]) -> String {
    let mut text = "| s | resident MiB | descriptors | threads | log MiB | metadata MiB | CPU | requests/s | p50 ms | p99 ms |\n\
                    |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for sample in samples {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {:.0} | {:.1} | {} | {} | {:.1} | {:.0} | {:.2} | {:.0} | {:.2} | {:.1} |",
            sample.seconds,
            sample.resident_mib,
            sample.descriptors,
            sample.threads,
            sample.log_mib,
            sample.metadata_mib,
            sample.cpu,
            sample.requests_per_second,
            sample.p50_ms,
            sample.p99_ms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soak(change: impl Fn(f64, &mut Sample)) -> Vec<Sample> {
        let flat = Sample {
            resident_mib: 50.0,
            descriptors: 60,
            threads: 10,
            log_mib: 4.0,
            p99_ms: 20.0,
            ..Sample::default()
        };
        let samples = (0..60).map(|number| {
            let mut sample = flat.clone();
            change(f64::from(number) / 60.0, &mut sample);
            sample
        });
        samples.collect()
    }

    #[test]
    fn what_stays_as_it_was_passes() {
        assert_eq!(judge(&soak(|_, _| ())), [""; 0]);
        // Warming up, single peaks, and what was there from the beginning are no growth.
        let uneven = soak(|at, sample| {
            sample.resident_mib = if at < 0.1 { 10.0 } else { 100.0 };
            sample.p99_ms = if (0.9..0.95).contains(&at) { 900.0 } else { 20.0 };
        });
        assert_eq!(judge(&uneven), [""; 0]);
    }

    #[test]
    fn what_grows_fails_by_its_name() {
        type Grow = fn(f64, &mut Sample);
        let grows: [(&str, Grow); 5] = [
            ("resident MiB", |at, sample| sample.resident_mib += 40.0 * at),
            ("open descriptors", |at, sample| sample.descriptors += (30.0 * at) as u64),
            ("threads", |at, sample| sample.threads += (90.0 * at) as u64),
            ("MiB of write-ahead log", |at, sample| sample.log_mib += 80.0 * at),
            ("p99 in ms", |at, sample| sample.p99_ms += if at > 0.6 { 40.0 } else { 0.0 }),
        ];
        for (what, grow) in grows {
            let failures = judge(&soak(grow));
            assert_eq!(failures.len(), 1, "{failures:?}");
            assert!(failures[0].starts_with(what), "{failures:?}");
        }
        assert!(judge(&soak(|_, _| ())[..8])[0].contains("too few"));
    }
}
