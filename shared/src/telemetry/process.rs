//! What this process costs: the usual `process_*` metrics, read from the kernel at each scrape.

use std::{fs, io};

use metrics::gauge;
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Reads them. A kernel that does not tell, tells nothing: they are then missing.
pub(super) fn measure() {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        report(&stat);
    }
    if let Ok(open) = open_descriptors() {
        gauge!("process_open_fds").set(open);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        #[expect(clippy::cast_precision_loss, reason = "nobody may open that many")]
        gauge!("process_max_fds").set(most as f64);
    }
}

/// Processor time only rises, but a counter of this library holds whole numbers, and seconds are too long for that.
pub(super) fn with_true_types(rendered: &str) -> String {
    rendered.replacen("# TYPE process_cpu_seconds_total gauge", "# TYPE process_cpu_seconds_total counter", 1)
}

/// The fields behind the name of the program, which may hold spaces: the first is the third of `proc_pid_stat(5)`.
fn fields(stat: &str) -> Vec<f64> {
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    behind.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()
}

#[expect(clippy::cast_precision_loss, reason = "both are small")]
fn report(stat: &str) {
    let (ticks, page) = (clock_ticks_per_second() as f64, page_size() as f64);
    if let [_, _, _, _, _, _, _, _, _, _, _, user, system, _, _, _, _, threads, _, _, _, resident, ..] =
        fields(stat)[..]
    {
        gauge!("process_cpu_seconds_total").set((user + system) / ticks);
        gauge!("process_threads").set(threads);
        gauge!("process_resident_memory_bytes").set(resident * page);
    }
}

fn open_descriptors() -> io::Result<u32> {
    let open = fs::read_dir("/proc/self/fd")?.count();
    // The one that was just open to count the others.
    Ok(u32::try_from(open.saturating_sub(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 300 18446744073709551615";
        let fields = fields(stat);
        assert_eq!((fields[11], fields[12], fields[17], fields[21]), (250.0, 50.0, 9.0, 300.0));
    }

    #[test]
    fn this_process_has_files_open() {
        assert!(open_descriptors().is_ok_and(|open| open > 0));
    }
}
