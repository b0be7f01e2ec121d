//! How long what a client sends may be.

use secrecy::SecretString;

use crate::{error::ApiError, password_rules};

/// Refuses a text of no character or of more than `most`.
pub fn check_length(field: &str, length: usize, most: usize) -> Result<(), ApiError> {
    if (1..=most).contains(&length) {
        Ok(())
    } else {
        Err(ApiError::InvalidRequest(format!("`{field}` must have 1 to {most} characters")))
    }
}

/// Refuses a password that nobody can have, before it is hashed: a longer one would only make that dear.
pub fn check_password(field: &str, password: &SecretString) -> Result<(), ApiError> {
    check_length(field, password_rules::length(password), password_rules::MAX)
}
