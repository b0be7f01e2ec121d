//! What takes too long for every run: `./test.sh --long`.

mod failovers;
mod load;
mod release;
mod rolling_update;
mod storm;
