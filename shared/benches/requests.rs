//! What is done for every request, without a network: `cargo bench -p gatefold-shared`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use gatefold_shared::{client_ip::TrustedProxies, origin, portable_json, rooms::RoomName};
use http::{HeaderMap, HeaderValue, header};
use serde_json::value::RawValue;

fn main() {
    divan::main();
}

#[divan::bench]
fn find_the_client_behind_a_proxy(bencher: Bencher) {
    let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
    let forwarded = ("x-forwarded-for".parse().unwrap(), HeaderValue::from_static("198.51.100.1, 203.0.113.9"));
    let headers = HeaderMap::from_iter([forwarded]);
    bencher.bench_local(|| proxies.client(black_box(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))), &headers));
}

#[divan::bench]
fn know_our_own_page(bencher: Bencher) {
    let headers = HeaderMap::from_iter([
        (header::ORIGIN, HeaderValue::from_static("https://app.example.com")),
        (header::HOST, HeaderValue::from_static("app.example.com")),
    ]);
    bencher.bench_local(|| origin::check(black_box(&headers), "https", &[]));
}

#[divan::bench]
fn read_the_name_of_a_room(bencher: Bencher) {
    bencher.bench_local(|| RoomName::parse(black_box("lobby.of-the-house:1")));
}

/// The largest `data` that fits into a message, as text and as numbers.
#[divan::bench(args = ["text", "numbers", "escapes"])]
fn check_the_largest_data(bencher: Bencher, kind: &str) {
    let part = match kind {
        "text" => r#"{"text":"Somebody writes something to the others"},"#,
        "numbers" => "[1.5e3,-273.15,1767268800000],",
        _ => r#"{"text":"\ud83d\ude00\n\u00e9"},"#,
    };
    let text = format!("[{}0]", part.repeat(16_000 / part.len()));
    let json = serde_json::from_str::<&RawValue>(&text).unwrap();
    bencher.counter(divan::counter::BytesCount::of_str(&text)).bench_local(|| portable_json::check(black_box(json)));
}
