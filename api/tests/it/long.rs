//! What takes too long for every run: `./test.sh --long`.

mod clients;
mod pgbouncer;
mod standby;
