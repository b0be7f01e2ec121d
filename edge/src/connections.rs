//! How many connections Nginx holds, from its own page of figures.

use std::time::Duration;

use metrics::gauge;
use reqwest::Client;
use tokio::time::{MissedTickBehavior, interval};

const EVERY: Duration = Duration::from_secs(5);

/// Asks Nginx again and again.
pub async fn measure(client: Client, status_url: String, limit: u32) {
    gauge!("gatefold_edge_connections_limit").set(limit);
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let figures = async { client.get(&status_url).send().await?.error_for_status()?.text().await };
        let active = figures.await.ok().as_deref().and_then(active);
        // Nothing is known: not that there are none.
        gauge!("gatefold_edge_connections").set(active.map_or(f64::NAN, f64::from));
    }
}

/// `Active connections: 291`, which are those of clients.
fn active(figures: &str) -> Option<u32> {
    figures.lines().next()?.strip_prefix("Active connections:")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_nginx_is_understood() {
        let page = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \n";
        assert_eq!(active(page), Some(291));
        assert_eq!(active("<html>"), None);
    }
}
