//! What every metric means: the `# HELP` of the programs.
//!
//! docs/operations.md has the same metrics with their labels and what their values are; the deployment check compares the two
//! with what the code records.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

const ALL: &[(Kind, &str, &str)] = &[
    (Counter, "gatefold_http_requests_total", "Requests answered, by method, pattern of the route and status."),
    (Histogram, "gatefold_http_request_duration_seconds", "From the head of a request to its answer."),
    (Counter, "gatefold_logins_total", "Logins, by outcome."),
    (Counter, "gatefold_family_rotations_total", "Refreshes of sessions, by outcome."),
    (
        Counter,
        "gatefold_family_reopenings_total",
        "Answers lost in an outage of Redis that were looked after, by outcome.",
    ),
    (
        Counter,
        "gatefold_sessions_revoked_total",
        "Sessions that this replica has ended, but for replays and evictions, by reason.",
    ),
    (
        Gauge,
        "gatefold_revocations_held",
        "Ended sessions whose access tokens could still be valid, in this replica's memory.",
    ),
    (Gauge, "gatefold_revocations_ready", "1 while revocations arrive at once, 0 otherwise."),
    (Gauge, "gatefold_revocations_staleness_seconds", "Time since the log of revocations was last read."),
    (Histogram, "gatefold_revocation_lag_seconds", "How long a revocation was on its way to this replica."),
    (
        Counter,
        "gatefold_revocations_reasserted_total",
        "Revocations that Redis had lost and this replica has put back.",
    ),
    (
        Counter,
        "gatefold_sessions_ended_again_total",
        "Sessions ended again since Redis was restored from an older copy.",
    ),
    (Counter, "gatefold_events_total", "Audit events, by kind."),
    (Counter, "gatefold_events_lost_total", "Audit events that could not be kept."),
    (Gauge, "gatefold_events_free_places", "How many more audit events may wait for Postgres."),
    (Histogram, "gatefold_password_hash_duration_seconds", "One password hash."),
    (Histogram, "gatefold_password_hash_wait_seconds", "Wait for a core to hash a password."),
    (Gauge, "gatefold_password_hashes_free_places", "How many more password hashes may wait."),
    (Counter, "gatefold_password_hashes_refused_total", "Calls answered 503 because too many password hashes waited."),
    (Counter, "gatefold_rate_limits_total", "Calls that were counted against a limit, by policy and outcome."),
    (Counter, "gatefold_key_reloads_total", "Changes of the key files, by outcome."),
    (Counter, "gatefold_postgres_connections_closed_total", "Connections that the pool has given up, by reason."),
    (Gauge, "gatefold_clock_skew_seconds", "By how much this machine's clock is ahead of Redis's, at least."),
    (Gauge, "gatefold_clock_stores_skew_seconds", "By how much Postgres's clock is ahead of Redis's, at least."),
    (Gauge, "gatefold_postgres_pool_connections", "Connections of the pool, by state."),
    (Gauge, "gatefold_postgres_pool_size", "Connections that the pool may have."),
    (Histogram, "gatefold_postgres_query_duration_seconds", "A query to Postgres, with the wait for a connection."),
    (Counter, "gatefold_postgres_query_errors_total", "Queries to Postgres that failed or were not answered in time."),
    (Histogram, "gatefold_redis_script_duration_seconds", "A script in Redis, until its reply."),
    (Counter, "gatefold_redis_script_errors_total", "Scripts in Redis that failed."),
    (Histogram, "gatefold_redis_command_duration_seconds", "A command or pipeline to Redis, until its reply."),
    (Counter, "gatefold_redis_command_errors_total", "Commands to Redis that failed."),
    (Gauge, "gatefold_redis_memory_bytes", "Memory that a primary of Redis uses."),
    (Gauge, "gatefold_redis_memory_limit_bytes", "Memory that a primary of Redis may use (maxmemory); 0: no limit."),
    (Gauge, "gatefold_postgres_server_connections", "Connections to Postgres, whoever made them."),
    (Gauge, "gatefold_postgres_server_connections_limit", "Connections that Postgres takes, of whom is no superuser."),
    (
        Counter,
        "gatefold_edge_requests_total",
        "Requests that Nginx answered, by kind of route, status and who answered.",
    ),
    (Gauge, "gatefold_edge_replicas", "Replicas behind Nginx, by service and state."),
    (Gauge, "gatefold_edge_connections", "Connections of clients that Nginx holds."),
    (Gauge, "gatefold_edge_connections_limit", "Connections of clients that Nginx can hold."),
    (Gauge, "gatefold_build_info", "Always 1; the version of the program is a label."),
    (Gauge, "gatefold_ws_connections", "Sockets, from their handshake until they are closed."),
    (Gauge, "gatefold_ws_connections_limit", "Sockets that there may be (MAX_CONNECTIONS)."),
    (Gauge, "gatefold_ws_sockets", "Sockets that are being served."),
    (Gauge, "gatefold_ws_rooms", "Rooms that this replica follows."),
    (Counter, "gatefold_ws_handshakes_total", "Handshakes of sockets, by result."),
    (Counter, "gatefold_ws_messages_total", "Messages from clients, by type and result."),
    (Histogram, "gatefold_ws_request_duration_seconds", "Messages that were passed on to a room, until their answer."),
    (Counter, "gatefold_ws_room_messages_total", "Messages published in rooms, as this replica heard them."),
    (Counter, "gatefold_ws_deliveries_total", "Writes to members of rooms."),
    (Gauge, "gatefold_ws_unsent_bytes", "What the network has not taken yet, of all sockets together."),
    (Counter, "gatefold_room_budget_refusals_total", "Messages refused because of a budget, by budget."),
    (Counter, "gatefold_ws_user_seat_refusals_total", "Sockets refused because their user has too many."),
    (
        Counter,
        "gatefold_ws_room_overflows_total",
        "Rooms in which more happened than could be told, so that they were read instead.",
    ),
    (Gauge, "gatefold_ws_shard_backlog", "What waits for the fullest shard."),
    (
        Counter,
        "gatefold_ws_presence_evictions_total",
        "Replicas that this one has taken off the lists of rooms, by reason.",
    ),
    (Counter, "gatefold_ws_closed_total", "Sockets closed, by code."),
    (Counter, "gatefold_trace_spans_exported_total", "Spans that the collector has taken."),
    (Counter, "gatefold_trace_spans_dropped_total", "Spans that are lost, by reason."),
    (Counter, "process_cpu_seconds_total", "Processor time."),
    (Gauge, "process_resident_memory_bytes", "Memory in use."),
    (Gauge, "process_open_fds", "Open files and sockets."),
    (Gauge, "process_max_fds", "How many files and sockets may be open."),
    (Gauge, "process_threads", "Threads."),
];

/// Describes all of them. One that a program does not record is not rendered.
pub(super) fn describe() {
    for &(kind, name, help) in ALL {
        let unit = unit_of(name);
        match kind {
            Counter => describe_counter!(name, unit, help),
            Gauge => describe_gauge!(name, unit, help),
            Histogram => describe_histogram!(name, unit, help),
        }
    }
}

fn unit_of(name: &str) -> Unit {
    let name = name.trim_end_matches("_total");
    if name.ends_with("_seconds") {
        Unit::Seconds
    } else if name.ends_with("_bytes") {
        Unit::Bytes
    } else {
        Unit::Count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_count_and_sentences_what_it_is() {
        for &(kind, name, help) in ALL {
            assert!(name.starts_with("gatefold_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Counter), "{name}");
            assert!(!matches!(kind, Histogram) || unit_of(name) == Unit::Seconds, "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
