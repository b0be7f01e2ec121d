//! The handlers: each extracts, makes one call into the domain and answers.

mod health;
mod login;
mod logout;
mod protected;
mod refresh;
mod session_response;

pub use self::{
    health::{health, ready},
    login::login,
    logout::logout,
    protected::protected,
    refresh::refresh,
};
