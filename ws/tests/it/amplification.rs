//! Small messages that make Redis read much: one account must not be able to harm the others with them.

use serde_json::{Value, json};

use crate::harness::{
    Gatefold, PASSWORD, get, many_sessions, new_room,
    raw::{Heard, Raw, TEXT, whole},
};

const SOCKETS: usize = 12;
/// Within the limits of a socket.
const JOINS: usize = 60;
const MEGABYTE: u64 = 1 << 20;

async fn info(gatefold: &Gatefold, section: &str, field: &str) -> u64 {
    let info = gatefold.redis_command(&format!("INFO {section}")).await;
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).expect("a number")
}

/// A room with as much history as there may be.
async fn full_room(gatefold: &Gatefold) -> String {
    let room = new_room();
    gatefold.visitor("ws-1").await.join(&room).await;
    let fill = "local id for i = 1, 100 do id = redis.call('XADD', KEYS[1], '*', 'user', '7', 'data', '\"' .. string.rep('x', 16000) .. '\"') end
        redis.call('HSET', KEYS[2], 'last', id) return {}";
    let key = |part: &str| format!("room:{{{room}}}:{part}");
    gatefold.redis_list(&["EVAL", fill, "2", &key("history"), &key("clock")]).await;
    room
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twelve_sockets_that_have_histories_read_harm_nobody_and_their_user_can_be_disabled() {
    let gatefold = Gatefold::start(many_sessions().api(2).ws(2)).await;
    let [attacker, victim] = [gatefold.new_user().await, gatefold.new_user().await];
    let login = gatefold.log_in(&attacker).await;
    let mut rooms = Vec::new();
    for _ in 0..SOCKETS {
        rooms.push(full_room(&gatefold).await);
    }
    let read_before = info(&gatefold, "stats", "total_net_output_bytes").await;

    let mut attack = tokio::task::JoinSet::new();
    for room in rooms {
        let mut socket = Raw::open(&gatefold.cluster.url(), &login.access_token).await;
        attack.spawn(async move {
            let join = whole(TEXT, json!({"type": "join", "room": room, "since": "0-0"}).to_string());
            let joins = join.repeat(JOINS);
            socket.send(&joins).await;
            loop {
                match socket.hear().await {
                    Heard::Text(_) | Heard::Ping(_) => {}
                    // It does not keep up with what it has asked for, or its user has been disabled.
                    _ => return,
                }
            }
        });
    }
    // Meanwhile the others are served.
    for _ in 0..5 {
        let session = gatefold.log_in(&victim).await;
        let (status, body) = get(&format!("{}/api/ready", gatefold.cluster.url())).await;
        assert_eq!(status, 200, "{body}");
        for replica in ["api-1", "api-2"] {
            assert_eq!(get(&format!("{}/api/ready", gatefold.replica_url(replica))).await.0, 200);
        }
        gatefold.log_out_at("api-1", &session).await;
    }
    gatefold.admin(&["user", "disable", "--", &attacker]).await;
    let credentials = json!({"username": attacker, "password": PASSWORD});
    let response = reqwest::Client::new().post(format!("{}/api/login", gatefold.cluster.url())).json(&credentials);
    let refused: Value = response.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(refused["code"], "account_disabled");
    while attack.join_next().await.is_some() {}

    // Without a bound each join has Redis read 1.6 MB: more than a gigabyte.
    let read = info(&gatefold, "stats", "total_net_output_bytes").await - read_before;
    let peak = info(&gatefold, "memory", "used_memory_peak").await;
    assert!(read < 100 * MEGABYTE, "{} MB were read", read / MEGABYTE);
    assert!(peak < 256 * MEGABYTE, "Redis took {} MB", peak / MEGABYTE);
}
