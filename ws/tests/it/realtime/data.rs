//! What `data` may be: nobody publishes what breaks the parsers of others.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::shared;
use crate::harness::new_room;

/// Reads a line each as JSON, and says what is wrong with the first that is not read as finite numbers and whole text.
const IN_NODE: &str = "
    const finite = (v) => typeof v === 'number' ? Number.isFinite(v)
        : typeof v === 'string' ? !/\\p{Surrogate}/u.test(v)
        : v === null || typeof v !== 'object' || Object.entries(v).every(([k, v]) => finite(k) && finite(v));
    for (const line of require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean)) {
        if (!finite(JSON.parse(line))) { console.error(line); process.exit(1); }
    }";
const IN_PYTHON: &str = "
import json, math, sys

def finite(v):
    if isinstance(v, str):
        return bool(v.encode('utf-8')) or not v
    if isinstance(v, (int, float)):
        return math.isfinite(v)
    if isinstance(v, list):
        return all(map(finite, v))
    return v is None or all(finite(k) and finite(w) for k, w in v.items())

for line in sys.stdin.buffer.read().decode('utf-8').split('\\n'):
    assert not line or finite(json.loads(line)), line
";

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[tokio::test]
async fn what_not_every_parser_reads_is_refused_and_reaches_nobody() {
    let gatefold = shared().await;
    let room = new_room();
    let mut author = gatefold.visitor("ws-1").await;
    let mut reader = gatefold.visitor("ws-2").await;
    author.join(&room).await;
    reader.join(&room).await;
    author.hears_presence(&room, "join", &reader.user).await;
    let deep = format!(r#"{{"a":{}}}"#, nested(32));
    for data in [
        &nested(33),
        &nested(7000),
        &deep,
        "1e999999",
        r#"{"a":[-1e309]}"#,
        &"9".repeat(400),
        r#""\ud800""#,
        r#"{"\udfff":0}"#,
        r#"["\ud83d\u0020\ude00"]"#,
    ] {
        author.client.say(format!(r#"{{"type":"publish","room":"{room}","id":"x","data":{data}}}"#)).await;
        let error = author.client.hear().await;
        assert_eq!((&error["payload"]["code"], &error["id"]), (&"invalid_data".into(), &"x".into()), "{data}");
    }
    // What would be no JSON to anybody is no message.
    for data in ["NaN", "1e", "\"\u{1}\"", "'a'", "[1,]"] {
        author.client.say(format!(r#"{{"type":"publish","room":"{room}","data":{data}}}"#)).await;
        assert_eq!(author.client.hear().await["payload"]["code"], "invalid_message", "{data}");
    }
    author.publish(&room, "the first").await;
    reader.hears_message(&room, "the first").await;
}

/// One value, at least this far from the deepest level, of parts that parsers differ about.
fn value(random: &mut StdRng, levels: usize) -> String {
    const LEAVES: [&str; 16] = [
        "null",
        "-0",
        "1e308",
        "-1.7976931348623157e308",
        "1e999999",
        "1E-999999",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        r#""\ud83d\ude00""#,
        r#""\ud800""#,
        r#""\u0000\uffff\u2028""#,
        r#""\\ud800\"\/""#,
        r#""é😀""#,
        r#""\udc00\ud800""#,
        "[]",
        "{}",
    ];
    match random.random_range(0..if levels == 0 { 6 } else { 10 }) {
        0..6 => LEAVES[random.random_range(0..LEAVES.len())].to_owned(),
        6..8 => format!("[{} , {}]", value(random, levels - 1), value(random, levels - 1)),
        _ => {
            let name = [r#""""#, r#""__proto__""#, r#""a""#, r#""\u0061""#, r#""\ud800""#][random.random_range(0..5)];
            format!(r#"{{{name}:{},"a":{}}}"#, value(random, levels - 1), value(random, levels - 1))
        }
    }
}

fn read_by(program: &str, argument: &str, script: &str, lines: &str) {
    let mut command = Command::new(program);
    command.args([argument, script]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut parser = command.spawn().unwrap_or_else(|error| panic!("{program}, which test.sh installs: {error}"));
    parser.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("read");
    let output = parser.wait_with_output().expect("its end");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn what_is_accepted_is_read_by_the_parsers_of_node_and_python() {
    let gatefold = shared().await;
    let room = new_room();
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut lines, mut refused) = (String::new(), 0);
    // Two sockets, for each may say sixty things at once.
    for _ in 0..2 {
        let mut author = gatefold.visitor("ws-1").await;
        author.join(&room).await;
        let deepest = (0..32_usize).map(|level| value(&mut random, level.saturating_sub(1).min(5))).fold(
            "1".to_owned(),
            |inner, other| {
                if other.len() + inner.len() < 4000 { format!("[{inner},{other}]") } else { format!("[{inner}]") }
            },
        );
        let values = (0..48).map(|_| value(&mut random, 5)).filter(|value| value.len() < 8000).collect::<Vec<_>>();
        for data in values.iter().chain([&deepest, &nested(32)]) {
            author.client.say(format!(r#"{{"type":"publish","room":"{room}","data":{data}}}"#)).await;
            loop {
                let answer = author.client.hear().await;
                match answer["type"].as_str() {
                    Some("published") => {
                        lines.push_str(data);
                        lines.push('\n');
                    }
                    Some("error") => {
                        assert_eq!(answer["payload"]["code"], "invalid_data", "{data}");
                        refused += 1;
                    }
                    _ => continue,
                }
                break;
            }
        }
    }
    assert!(refused >= 10 && lines.lines().count() >= 10, "{refused} refused, and accepted:\n{lines}");
    read_by("node", "-e", IN_NODE, &lines);
    read_by("python3", "-c", IN_PYTHON, &lines);
}
