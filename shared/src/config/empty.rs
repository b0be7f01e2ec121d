//! Variables of the environment that are there and empty, as templates of `.env` files have them.

use std::ffi::OsStr;

use clap::{Command, builder::Resettable};

/// Where nothing is a value of its own: no other cookie is accepted.
const EMPTY_IS_A_VALUE: &str = "COOKIE_PREVIOUS_NAMES";

/// The command and its subcommands without the variables that are empty: those settings have their defaults, or what the
/// command line says.
pub(super) fn without(command: Command, is_empty: &dyn Fn(&OsStr) -> bool) -> Command {
    let command = command.mut_args(|argument| {
        let ignored = argument.get_env().is_some_and(|variable| variable != EMPTY_IS_A_VALUE && is_empty(variable));
        if ignored { argument.env(Resettable::Reset) } else { argument }
    });
    command.mut_subcommands(|command| without(command, is_empty))
}
