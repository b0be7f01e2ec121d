//! JSON that every reader can read. What one user publishes is passed on as it was written, so it must not break the
//! parsers of the others: RFC 8259 allows much that common parsers refuse, or read as something else.
//!
//! docs/protocol.md lists what is refused and what is not.

use serde_json::value::RawValue;

/// Levels of arrays and objects within each other.
pub const MAX_DEPTH: u32 = 32;
/// Without an exponent no number of fewer characters is too large for a double.
const SHORT_NUMBER: usize = 300;

/// Why a text is not portable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPortable {
    /// Arrays and objects are nested too deeply.
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A number is beyond what a double can hold.
    #[error("has a number that is too large for a double")]
    NumberTooLarge,
    /// Half of a surrogate pair, `\ud800`, say: no character.
    #[error("has a lone surrogate in a string")]
    LoneSurrogate,
}

/// Checks a text that is JSON already, in one pass without recursion.
pub fn check(json: &RawValue) -> Result<(), NotPortable> {
    let bytes = json.get().as_bytes();
    let (mut at, mut depth) = (0, 0_u32);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = after_string(bytes, at)?,
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(NotPortable::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'-' | b'0'..=b'9' => at = after_number(json.get(), at - 1)?,
            _ => {}
        }
    }
    Ok(())
}

/// Where a string ends that begins here.
fn after_string(bytes: &[u8], begin: usize) -> Result<usize, NotPortable> {
    let mut at = begin;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' if bytes.get(at) == Some(&b'u') => match code_unit(bytes, at - 1) {
                Some(0xd800..=0xdbff) => match code_unit(bytes, at + 5) {
                    Some(0xdc00..=0xdfff) => at += 11,
                    _ => return Err(NotPortable::LoneSurrogate),
                },
                Some(0xdc00..=0xdfff) => return Err(NotPortable::LoneSurrogate),
                _ => at += 5,
            },
            b'\\' => at += 1,
            _ => {}
        }
    }
    Ok(at)
}

/// The value of `\uXXXX`, if that is what begins here.
fn code_unit(bytes: &[u8], begin: usize) -> Option<u16> {
    let digits = bytes.get(begin..begin + 6)?.strip_prefix(br"\u")?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Where a number ends that begins here.
fn after_number(text: &str, begin: usize) -> Result<usize, NotPortable> {
    let rest = &text[begin..];
    let is_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    let length = rest.bytes().take_while(is_number).count();
    let number = &rest[..length];
    let may_be_large = length >= SHORT_NUMBER || number.bytes().any(|byte| matches!(byte, b'e' | b'E'));
    if may_be_large && !number.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(NotPortable::NumberTooLarge);
    }
    Ok(begin + length)
}

#[cfg(test)]
mod tests;
