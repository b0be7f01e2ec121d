//! The URLs that say where Postgres is.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{Error, postgres::PgConnectOptions};

/// What the URL says. One of another scheme is refused, which sqlx would take for the default host and the default user.
pub(super) fn parse(url: &SecretString) -> Result<PgConnectOptions, Error> {
    let url = url.expose_secret();
    let refused = |why: &str| Err(Error::Configuration(why.into()));
    match url.split_once(':').map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
        Some((scheme, rest)) if matches!(&*scheme, "postgres" | "postgresql") && rest.starts_with("//") => {
            PgConnectOptions::from_str(url)
        }
        Some((scheme, _)) if scheme == "jdbc" => {
            refused("jdbc: is for Java; write it as postgres://user:password@host:5432/name")
        }
        _ => refused("it must begin with postgres:// or postgresql://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_postgres_are_taken() {
        let host =
            |url: &str| parse(&url.into()).map(|options| options.get_host().to_owned()).map_err(|e| e.to_string());
        for good in ["postgres://u@db.example/n", "postgresql://u@db.example/n", "POSTGRES://u@db.example/n"] {
            assert_eq!(host(good), Ok("db.example".to_owned()), "{good}");
        }
        for (bad, complaint) in [
            ("jdbc:postgresql://a-secret@db.example/n", "jdbc: is for Java"),
            ("JDBC:postgresql://a-secret@db.example/n", "jdbc: is for Java"),
            ("mysql://a-secret@db.example/n", "must begin with postgres://"),
            ("postgres+asyncpg://a-secret@db.example/n", "must begin with postgres://"),
            ("postgres:a-secret", "must begin with postgres://"),
            ("a-secret", "must begin with postgres://"),
            ("", "must begin with postgres://"),
        ] {
            let problem = host(bad).unwrap_err();
            assert!(problem.contains(complaint) && !problem.contains("a-secret"), "{bad}: {problem}");
        }
    }
}
