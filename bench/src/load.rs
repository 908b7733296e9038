//! Bounded load from a few connections, and what it cost whom.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::client::Client;
use crate::process;
use crate::server::Server;

/// One step of a load: does the work numbered so, never given twice, and returns the bytes it moved.
pub type Step<'a> = Box<dyn Fn(&mut Client<'_>, u64) -> anyhow::Result<u64> + Sync + 'a>;

/// A load made ready.
pub struct Load<'a> {
    /// What is done again and again.
    pub step: Step<'a>,
    /// Steps in one sample, where it is not time that ends it.
    pub steps: Option<u64>,
    next: AtomicU64,
}

impl<'a> Load<'a> {
    /// Ends with the time.
    pub fn timed(step: impl Fn(&mut Client<'_>, u64) -> anyhow::Result<u64> + Sync + 'a) -> Self {
        Self { step: Box::new(step), steps: None, next: AtomicU64::new(0) }
    }

    /// Ends after so many steps, or with the time where there is one.
    pub fn counted(
        steps: u64,
        step: impl Fn(&mut Client<'_>, u64) -> anyhow::Result<u64> + Sync + 'a,
    ) -> Self {
        Self { steps: Some(steps), ..Self::timed(step) }
    }
}

/// What one run of a load showed.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Steps done.
    pub operations: u64,
    /// Requests in them.
    pub requests: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// From the first step to the end of the last.
    pub seconds: f64,
    /// Steps in a second, the sum over the connections, each until the end of its own last step.
    pub per_second: f64,
    /// Bytes in a second, in the same way.
    pub bytes_per_second: f64,
    /// CPU time of the server.
    pub cpu_seconds: f64,
    /// CPU time of the load generator.
    pub generator_cpu_seconds: f64,
    /// Peak of the server's resident memory meanwhile.
    pub peak_mib: f64,
    /// Half of the steps took at most so long.
    pub p50_ms: f64,
    /// 99 of 100 steps took at most so long.
    pub p99_ms: f64,
    /// 99 of 100 requests took at most so long.
    pub request_p99_ms: f64,
}

#[derive(Default)]
struct Worker {
    operations: u64,
    bytes: u64,
    seconds: f64,
    step_times: Vec<u32>,
    request_times: Vec<u32>,
}

/// Runs a load from so many connections.
///
/// # Errors
/// If any step fails: a sample is of work that was done.
pub fn run(
    server: &Server,
    load: &Load<'_>,
    connections: usize,
    limit: Option<Duration>,
) -> anyhow::Result<Sample> {
    let until = load.steps.map(|steps| load.next.load(Ordering::Relaxed) + steps);
    let failed = AtomicBool::new(false);
    let barrier = Barrier::new(connections + 1);
    let (pid, own) = (server.pid(), std::process::id());
    process::reset_peak(pid)?;
    let outcome = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let client = Client::connect(server);
                    barrier.wait();
                    let worker = client.and_then(|client| work(load, client, until, limit, &failed));
                    if worker.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    worker
                })
            })
            .collect();
        let before = process::cpu_seconds(pid).and_then(|cpu| Ok((cpu, process::cpu_seconds(own)?)));
        barrier.wait();
        let begun = Instant::now();
        let workers: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let workers = workers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let (server_before, own_before) = before?;
        let cpu = process::cpu_seconds(pid).context("the server is gone")? - server_before;
        Ok::<_, anyhow::Error>((workers, seconds, cpu, process::cpu_seconds(own)? - own_before))
    });
    if let Some(until) = until {
        load.next.store(until, Ordering::Relaxed);
    }
    let (workers, seconds, cpu_seconds, generator_cpu_seconds) = outcome?;
    let mut sample = summed(workers)?;
    sample.seconds = seconds;
    sample.cpu_seconds = cpu_seconds;
    sample.generator_cpu_seconds = generator_cpu_seconds;
    sample.peak_mib = process::peak_mib(pid)?;
    Ok(sample)
}

fn work(
    load: &Load<'_>,
    mut client: Client<'_>,
    until: Option<u64>,
    limit: Option<Duration>,
    failed: &AtomicBool,
) -> anyhow::Result<Worker> {
    let mut worker = Worker::default();
    let begun = Instant::now();
    let mut last = begun;
    while limit.is_none_or(|limit| last - begun < limit) && !failed.load(Ordering::Relaxed) {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        if until.is_some_and(|until| number >= until) {
            break;
        }
        worker.bytes += (load.step)(&mut client, number)?;
        let now = Instant::now();
        worker.step_times.push(u32::try_from((now - last).as_micros()).unwrap_or(u32::MAX));
        worker.operations += 1;
        last = now;
    }
    worker.seconds = (last - begun).as_secs_f64();
    worker.request_times = client.request_times;
    Ok(worker)
}

fn summed(workers: Vec<Worker>) -> anyhow::Result<Sample> {
    let rate = |amount: fn(&Worker) -> u64| -> f64 {
        workers
            .iter()
            .filter(|worker| worker.operations > 0)
            .map(|worker| amount(worker) as f64 / worker.seconds)
            .sum()
    };
    let (per_second, bytes_per_second) = (rate(|worker| worker.operations), rate(|worker| worker.bytes));
    let operations: u64 = workers.iter().map(|worker| worker.operations).sum();
    ensure!(operations > 0, "no step was done");
    let bytes = workers.iter().map(|worker| worker.bytes).sum();
    let (mut steps, mut requests) = (Vec::new(), Vec::new());
    for worker in workers {
        steps.extend(worker.step_times);
        requests.extend(worker.request_times);
    }
    steps.sort_unstable();
    requests.sort_unstable();
    Ok(Sample {
        operations,
        requests: requests.len() as u64,
        bytes,
        seconds: 0.0,
        per_second,
        bytes_per_second,
        cpu_seconds: 0.0,
        generator_cpu_seconds: 0.0,
        peak_mib: 0.0,
        p50_ms: percentile(&steps, 50),
        p99_ms: percentile(&steps, 99),
        request_p99_ms: percentile(&requests, 99),
    })
}

/// Milliseconds that so many of a hundred sorted microseconds do not exceed.
pub fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// Does setup work numbered `0..count` from many connections.
///
/// # Errors
/// If any of it fails.
pub fn all(
    server: &Server,
    count: u64,
    step: impl Fn(&mut Client<'_>, u64) -> anyhow::Result<u64> + Sync,
) -> anyhow::Result<()> {
    run(server, &Load::counted(count, step), 32, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let times: Vec<u32> = (1..=200).map(|number| number * 1000).collect();
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (100.0, 198.0));
        assert_eq!((percentile(&[7000], 99), percentile(&[], 99)), (7.0, 0.0));
    }

    #[test]
    fn rates_are_of_the_time_each_connection_worked() {
        let worker =
            |operations, seconds| Worker { operations, bytes: operations * 10, seconds, ..Worker::default() };
        let sample = summed(vec![worker(10, 1.0), worker(10, 2.0), worker(0, 0.0)]).unwrap();
        assert_eq!((sample.operations, sample.per_second, sample.bytes_per_second), (20, 15.0, 150.0));
        assert!(summed(vec![worker(0, 0.0)]).is_err());
    }
}
