use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn verdict(text: &str) -> Result<(), NotPortable> {
    check(serde_json::from_str::<&RawValue>(text).expect("JSON"))
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn thirty_two_levels_are_portable_and_more_are_not() {
    let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert_eq!((verdict(&nested(32)), verdict(&objects(32))), (Ok(()), Ok(())));
    for levels in [33, 34, 127, 128, 7000, 8000] {
        assert_eq!(verdict(&nested(levels)), Err(NotPortable::TooDeep), "{levels}");
    }
    assert_eq!(verdict(&objects(33)), Err(NotPortable::TooDeep));
    // Beside each other is not within each other, and what stands in a string is no level.
    assert_eq!(verdict(&format!("[{}]", vec![nested(31); 100].join(","))), Ok(()));
    assert_eq!(verdict(&format!(r#"["{}","\"[{{"]"#, "[{".repeat(100))), Ok(()));
}

#[test]
fn numbers_that_a_double_cannot_hold_are_not_portable() {
    let long = |digits: usize| "9".repeat(digits);
    for number in ["1e999999", "-1e999999", "1E+309", "1.8e308", "0.1e310", "1e99999999999999999999", &long(400)] {
        assert_eq!(verdict(number), Err(NotPortable::NumberTooLarge), "{number}");
        assert_eq!(verdict(&format!(r#"{{"a":[0,{number}]}}"#)), Err(NotPortable::NumberTooLarge), "{number}");
    }
    let small = format!("0.{}1e400", "0".repeat(500));
    for number in
        ["1.7976931348623157e308", "-1e308", "1e-999999", "0e999", "12345678901234567890123", &long(300), &small]
    {
        assert_eq!(verdict(number), Ok(()), "{number}");
    }
    assert_eq!(verdict(r#""1e999999""#), Ok(()));
}

#[test]
fn lone_surrogates_are_not_portable() {
    for text in [
        r#""\ud800""#,
        r#""\uDFFF""#,
        r#""\udc00\ud800""#,
        r#""\ud800\ud800\udc00""#,
        r#""\ud83dx""#,
        r#""\ud83d\n""#,
        r#""\ud83d\\ude00""#,
        r#""\\\ud800""#,
        r#"{"\ud800":1}"#,
        r#"["\ud83d","\ude00"]"#,
    ] {
        assert_eq!(verdict(text), Err(NotPortable::LoneSurrogate), "{text}");
    }
    for text in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\ud7ff\ue000\u0000\uffff""#, r#""\\\\ud800\"""#, r#""é😀""#]
    {
        assert_eq!(verdict(text), Ok(()), "{text}");
    }
}

/// JSON as people and attackers write it: escapes, long numbers, any depth.
fn json() -> impl Strategy<Value = String> {
    let number = r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?";
    let string = r#""([ -!#-\[\]-~é😀]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-f]{2}\\u[dD][c-fC-F][0-9a-f]{2}){0,8}""#;
    let leaf = prop_oneof![number, string, Just("null".to_owned()), Just("true".to_owned())];
    leaf.prop_recursive(40, 200, 4, move |inner| {
        // Each name is another one: of a name that is there twice serde_json keeps the last value.
        let member = |(at, (name, value)): (usize, &(String, String))| format!("\"{at}{} :{value}", &name[1..]);
        let object = move |all: Vec<(String, String)>| {
            format!("{{{}}}", all.iter().enumerate().map(member).collect::<Vec<_>>().join(","))
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" ,"))),
            prop::collection::vec((string, inner), 0..4).prop_map(object),
        ]
    })
}

fn depth(value: &Value) -> u32 {
    match value {
        Value::Array(all) => 1 + all.iter().map(depth).max().unwrap_or(0),
        Value::Object(all) => 1 + all.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// serde_json refuses numbers that are too large, lone surrogates, and 128 levels.
    #[test]
    fn what_is_portable_is_what_a_parser_reads_without_too_many_levels(text in json()) {
        let read = serde_json::from_str::<Value>(&text);
        let expected = read.as_ref().is_ok_and(|value| depth(value) <= MAX_DEPTH);
        prop_assert_eq!(verdict(&text).is_ok(), expected, "{}: {:?}, {:?}", text, verdict(&text), read);
    }
}
